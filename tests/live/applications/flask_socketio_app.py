"""A Flask-SocketIO application whose workers share a log: see test_gunicorn_socketio.py."""

from __future__ import annotations

import os

from flask import Flask
from flask_socketio import SocketIO, disconnect, emit, join_room

import pglisten
from pglisten import EventLog
from pglisten.socketio import PgManager

application = Flask(__name__)
broadcaster = pglisten.Broadcaster(min_reconnect_interval=0.1)  # PG* and PGLISTEN_BACKEND say where and how
socketio = SocketIO(
    application, async_mode="gevent", client_manager=PgManager(EventLog("socketio", broadcaster))
)


def join(room: str) -> int:
    join_room(room)
    return os.getpid()


def say(message: list[object]) -> int:
    """Tell everybody; the answer comes when the message is committed."""
    emit("said", message, broadcast=True)
    return os.getpid()


def ask(room: str) -> None:
    """Ask the client in *room*, and tell everybody the answer."""
    socketio.emit("question", to=room, callback=lambda answer: socketio.emit("answer", answer))


def end(sid: str) -> None:
    disconnect(sid)


for handler in (join, say, ask, end):
    socketio.on_event(handler.__name__, handler)
