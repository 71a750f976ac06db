"""From worker threads to the main thread."""

from __future__ import annotations

import threading

from qtpy.QtWidgets import QApplication

from napari_structseg.widgets.threads.inbox import Inbox


def run(task) -> None:
    thread = threading.Thread(target=task)
    thread.start()
    thread.join()


def test_what_came_before_does_not_end_the_wait(qapp: QApplication) -> None:
    """The main thread waits for the slice, not for what was left of the request before it."""
    received: list[list[str]] = []
    inbox = Inbox[str](received.append)
    run(lambda: inbox.put("left over"))
    has_looked = threading.Event()

    def is_slice(item: str) -> bool:
        if item == "left over":
            has_looked.set()
        return item == "slice"

    def answer() -> None:
        has_looked.wait()
        inbox.put("slice")

    thread = threading.Thread(target=answer)
    thread.start()
    inbox.wait(60, is_slice)
    thread.join()
    assert received == [["left over", "slice"]]
    assert inbox.is_empty()
    qapp.processEvents()
    assert len(received) == 1


def test_what_came_is_received_though_the_awaited_does_not_come(qapp: QApplication) -> None:
    received: list[list[str]] = []
    inbox = Inbox[str](received.append)
    run(lambda: inbox.put("left over"))
    inbox.wait(0, lambda item: item == "slice")
    assert received == [["left over"]]
    inbox.close()
    run(lambda: inbox.put("slice"))
    qapp.processEvents()
    assert len(received) == 1
