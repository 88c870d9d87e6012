"""What stock sliders and menus lack in JupyterLab: keys that reach them, and names that a screen reader can say."""

import anywidget


class Accessible(anywidget.AnyWidget):
    """An invisible widget that mends the controls beside it in the same box.

    JupyterLab takes the arrow keys away from a menu (a `select`), and ipywidgets does not tie a slider's handle to its
    description. Views appear one after the other, so the box is watched while it lives.
    """

    _esm = """
    function mend(box) {
      for (const control of box.querySelectorAll("select, .noUi-handle, .widget-readout")) {
        const label = control.closest(".widget-inline-hbox")?.querySelector(".widget-label");
        if (label && !control.hasAttribute("aria-label")) control.setAttribute("aria-label", label.textContent);
        if (control.tagName === "SELECT") control.dataset.lmSuppressShortcuts = "true";
      }
    }
    function render({ el }) {
      el.style.display = "none";
      let watcher = null;
      const start = setInterval(() => {
        const box = el.closest(".widget-box");
        if (!box) return;
        clearInterval(start);
        mend(box);
        watcher = new MutationObserver(() => mend(box));
        watcher.observe(box, { childList: true, subtree: true });
      }, 50);
      return () => { clearInterval(start); watcher?.disconnect(); };
    }
    export default { render };
    """
