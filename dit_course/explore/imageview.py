"""What all explorers share: a live view that also carries a still picture of itself."""

import html

import ipywidgets as widgets
import traitlets


class NamedImage(widgets.Image):
    """An image whose `tooltip` says what it shows, to a mouse and to a screen reader.

    ipywidgets 8 sets the tooltip of what has an empty description, and fails on what has none.
    """

    description = traitlets.Unicode("").tag(sync=True)


class View(widgets.VBox):
    """A box of controls whose subclass has a `message`, a `picture` of what it shows, and `_redraw`."""

    def _changed(self, _change) -> None:
        try:
            self._redraw()
        except Exception as error:  # what a callback raises is shown nowhere
            self.message.value = f'<span role="alert">{html.escape(f"{type(error).__name__}: {error}")}</span>'

    def _repr_mimebundle_(self, **kwargs):
        """The live view for JupyterLab, and the still picture for GitHub, a printed page or a run without a browser."""
        live = super()._repr_mimebundle_(**kwargs) or {}
        still, metadata = self.picture._repr_mimebundle_()
        return {**live, **still}, metadata
