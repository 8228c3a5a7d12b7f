"""A small HTTP server in the place of TorchServe's frontend: a process of its own that can be frozen and killed.

It listens on two ports, as the frontend does, for predictions and for management. A file of JSON says how it answers;
another gets a line for every request. It imports nothing of ours, so that it starts at once.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

BEHAVIOUR, REQUESTS, HEALTH = "behaviour.json", "requests.txt", "health.txt"


def serve(port: int, folder: Path, models: int) -> None:
    """Answer as the file says."""
    together, never, one_at_a_time = threading.Barrier(models), threading.Event(), threading.Lock()

    class Frontend(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body of a response in one packet

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            status = self.behaviour()["predictions"].get(self.path.split("/")[2], 200)
            if status == "together":
                together.wait(60)
                status = 200
            elif status == "hang":
                never.wait()
            self.answer(status, {} if status == 200 else {"message": "the server is stopping; try again"})

        def do_PUT(self) -> None:
            self.behaviour()
            address = urlsplit(self.path)
            if address.path == "/health":
                (folder / HEALTH).write_text(parse_qs(address.query).get("reason", [""])[0])
            self.answer(200, {})

        def do_GET(self) -> None:
            behaviour, parts = self.behaviour(), urlsplit(self.path).path.split("/")
            if self.headers["Authorization"] != f"Bearer {behaviour['token']}":
                self.answer(401, {"message": "token"})
            elif parts[1] == "requests":
                self.answer(200, {"in_flight": behaviour["in_flight"], "held": 0})
            elif len(parts) == 2:
                self.answer(200, {"models": [{"modelName": name} for name in behaviour["models"]]})
            else:
                wanted, workers = behaviour["models"][parts[2]]
                ready = [{"status": "READY", "pid": pid} for pid in workers]
                self.answer(200, [{"modelVersion": "1.0", "minWorkers": wanted, "workers": ready}])

        def behaviour(self) -> dict:
            with one_at_a_time, (folder / REQUESTS).open("a") as file:
                file.write(f"{self.command} {self.path}\n")
            return json.loads((folder / BEHAVIOUR).read_text())

        def answer(self, status: int, body: object) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    for one in (port, port + 1):
        server = ThreadingHTTPServer(("127.0.0.1", one), Frontend)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever).start()
    print("ready", flush=True)


if __name__ == "__main__":
    serve(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
