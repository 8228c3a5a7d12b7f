"""FastAPI, uvicorn with uvloop and httptools, orjson; one worker, one request at a time, as its documentation shows.

FastAPI does not batch. The coroutine predicts in place: for a forward pass of microseconds a thread would cost more.
"""

import os

import network
import orjson
import uvicorn
from fastapi import FastAPI, Request, Response

app = FastAPI()
model = network.load()


@app.post("/predict")
async def predict(request: Request) -> Response:
    body = await request.body()
    kind = request.headers["content-type"]
    if kind == "application/octet-stream":
        probabilities = network.probabilities(model, network.raw_rows(body))
        return Response(probabilities.tobytes(), media_type=kind)
    rows = network.png_row(body) if kind == "image/png" else network.json_rows(orjson.loads(body)["instances"])
    content = {"predictions": network.predictions(network.probabilities(model, rows))}
    return Response(orjson.dumps(content), media_type="application/json")


if __name__ == "__main__":
    port = int(os.environ["BENCH_PORT"])
    uvicorn.run(app, host="127.0.0.1", port=port, loop="uvloop", http="httptools", access_log=False)
