"""A Jupyter server extension that lets small messages out at once: a slider's move, a small picture coming back.

Jupyter's server leaves Nagle's algorithm on for its websocket to the browser. On Linux it meets the delayed
acknowledgement of TCP, and a message waits up to 40 ms for the one before it. Installing the package switches this
extension on (`etc/jupyter/jupyter_server_config.d/dit_course.json`). To switch it off, where the course is installed:

    jupyter server extension disable --sys-prefix dit_course.setup.nodelay
"""

from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection

SETTING = "kernel_websocket_connection_class"


class NoDelayConnection(ZMQChannelsWebsocketConnection):
    """The server's own connection between browser and kernel, with TCP_NODELAY."""

    def connect(self):
        """Open the connection, in the name of speed without Nagle's algorithm."""
        try:
            self.websocket_handler.set_nodelay(True)
        except Exception as error:  # a slower slider is no reason to refuse a kernel
            self.log.warning("dit_course: TCP_NODELAY was not set: %s", error)
        return super().connect()


def _jupyter_server_extension_points() -> list[dict]:
    return [{"module": "dit_course.setup.nodelay"}]


def _load_jupyter_server_extension(app) -> None:
    settings = app.web_app.settings
    if settings.get(SETTING) is ZMQChannelsWebsocketConnection:  # leave another's choice alone
        settings[SETTING] = NoDelayConnection
        app.log.info("dit_course: TCP_NODELAY on the websocket of kernels")
