"""A server in a thread of the test's own process."""

import contextlib
import threading
import time

import uvicorn

from jaxmf.live.server.app import application


@contextlib.contextmanager
def served(live, **settings):
    """The URL of a server of a living model, which is closed at its end."""
    server = uvicorn.Server(uvicorn.Config(application(live, **settings), port=0, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
