"""Receivers of mail and of requests on the loopback device, with the faults that real ones have."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class MailServer:
    """A mail server in a thread: STARTTLS or TLS, one login, and faults.

    Parameters
    ----------
    certificate
        PEM file with key and certificate, for `security` ``starttls`` and ``ssl``.
    login
        ``user``, ``password``; None: anybody may send.
    refuse
        Code with which every recipient is refused; 0: none.
    silent_s
        How long it says nothing after somebody has connected.
    """

    def __init__(self, *, certificate=None, security="none", login=None, refuse=0, silent_s=0.0) -> None:
        self.messages: list[str] = []
        self.logins: list[tuple[str, str]] = []
        self.encrypted: list[bool] = []
        self._login, self._refuse, self._silent_s, self._security = login, refuse, silent_s, security
        self._context = None
        if certificate:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(certificate)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> MailServer:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stop, self._talks = asyncio.Event(), set()
        tls = self._context if self._security == "ssl" else None
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for talk in self._talks:
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)

    async def _accept(self, reader, writer) -> None:
        task = asyncio.current_task()
        self._talks.add(task)
        try:
            await self._talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            pass
        finally:
            self._talks.discard(task)
            writer.close()

    async def _talk(self, reader, writer) -> None:
        async def say(text: str) -> None:
            writer.write(f"{text}\r\n".encode())
            await writer.drain()

        encrypted = self._security == "ssl"
        await asyncio.sleep(self._silent_s)
        await say("220 loopback")
        while line := (await reader.readline()).decode().strip():
            word = line.split()[0].upper()
            if word == "EHLO":
                await say("250-loopback")
                offers = ["STARTTLS"] if self._security == "starttls" and not encrypted else []
                offers += ["AUTH PLAIN"] if self._login else []
                for offer in offers:
                    await say(f"250-{offer}")
                await say("250 ok")
            elif word == "STARTTLS":
                await say("220 go")
                await writer.start_tls(self._context)
                encrypted = True
            elif word == "AUTH":
                given = tuple(base64.b64decode(line.split()[2]).decode().split("\0")[1:])
                self.logins.append(given)
                await say("235 ok" if given == self._login else f"535 no such password: {given[1]}")
            elif word == "RCPT" and self._refuse:
                await say(f"{self._refuse} not here")
            elif word == "DATA":
                await say("354 go")
                self.messages.append((await reader.readuntil(b"\r\n.\r\n")).decode())
                self.encrypted.append(encrypted)
                await say("250 taken")
            elif word == "QUIT":
                await say("221 bye")
                return
            else:
                await say("250 ok")


class WebServer:
    """A receiver of requests; `answer` is its code, `silent_s` how long it waits before it answers."""

    def __init__(self, *, answer: int = 200, silent_s: float = 0.0, port: int = 0) -> None:
        self.requests: list[tuple[dict, bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                time.sleep(silent_s)
                outer.requests.append((dict(self.headers), body))
                self.send_response(answer)
                if 300 <= answer < 400:
                    self.send_header("Location", f"http://127.0.0.1:{outer.port}/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST  # a redirected request would be one

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass  # the other side has gone

        self._server = Server(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> WebServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    @property
    def notices(self) -> list[dict]:
        return [json.loads(body) for _, body in self.requests]
