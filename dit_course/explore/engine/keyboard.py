"""What stock sliders and menus lack in JupyterLab: keys that reach them, and names for screen readers."""

import anywidget


class Accessible(anywidget.AnyWidget):
    """An invisible widget that mends the controls beside it in the same box.

    JupyterLab takes the arrow keys away from a menu (a `select`), and ipywidgets does not tie a slider's handle to its
    description. Nor does the handle tell its value: noUiSlider rounds it, and of a choice it knows the number only; so
    a screen reader gets the text of the readout. Views appear one after the other, and readouts change, so the box
    is watched while it lives.
    """

    _esm = """
    // what the readout of a slider says, in the part that belongs to a handle of several
    function value(handle, line) {
      const text = line.querySelector(".widget-readout")?.textContent ?? "";
      const handles = [...line.querySelectorAll(".noUi-handle")], parts = text.split(/\\s+\u2013\\s+/);
      return handles.length > 1 && parts.length === handles.length ? parts[handles.indexOf(handle)] : text;
    }
    function set(element, name, text) {
      if (text && element.getAttribute(name) !== text) element.setAttribute(name, text);
    }
    function mend(box) {
      for (const control of box.querySelectorAll("select, .noUi-handle, .widget-readout")) {
        const line = control.closest(".widget-inline-hbox"), label = line?.querySelector(".widget-label");
        if (label && !control.hasAttribute("aria-label")) control.setAttribute("aria-label", label.textContent);
        if (control.tagName === "SELECT") control.dataset.lmSuppressShortcuts = "true";
        if (line && control.classList.contains("noUi-handle")) set(control, "aria-valuetext", value(control, line));
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
        watcher.observe(box, {
          childList: true, subtree: true, characterData: true, attributes: true, attributeFilter: ["aria-valuetext"],
        });
      }, 50);
      return () => { clearInterval(start); watcher?.disconnect(); };
    }
    export default { render };
    """
