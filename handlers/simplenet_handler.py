"""TorchServe's way into SimpleNet Serve: build and verify once, then decode, predict, encode."""

import logging

import numpy as np

from simplenet import settings
from simplenet.worker import codec, state, wire
from simplenet.worker.messages import Frame
from simplenet.worker.predictor import Predictor, worker_device


class SimpleNetHandler:
    """Answers batches of HTTP requests; each request succeeds or fails alone."""

    def initialize(self, context):
        """Rebuild the network from the archive on this worker's device; any mismatch refuses to load."""
        properties = context.system_properties
        self.predictor = Predictor.from_archive(
            properties["model_dir"],
            worker_device(properties.get("gpu_id")),
            (context.model_yaml_config or {}).get("handler") or {},
        )
        level = settings.worker_log_level()
        state.announce(context, self.predictor, wire.install(self.answer))
        # TorchServe's worker logs a line for every batch at INFO; each would be written while requests wait.
        logging.getLogger().setLevel(level)

    def handle(self, data, context):
        """TorchServe's own way to `answer`, where the wire is not installed."""
        frames = [Frame(b"", context.get_all_request_header(index), fields) for index, fields in enumerate(data)]
        answers = self.answer(frames)
        for index, answer in enumerate(answers):
            context.set_response_content_type(index, answer.content_type)
            context.set_response_status(answer.status, answer.phrase, index)
        return [answer.body for answer in answers]

    def answer(self, frames):
        """One answer per request, in order: decode each alone, predict all rows at once, encode each alone."""
        shape = self.predictor.shape
        requests = [codec.decode_or_refuse(frame, shape) for frame in frames]
        rows = [request.rows for request in requests if isinstance(request, codec.Request)]
        probabilities = self.predictor.predict_all(rows) if rows else np.empty((0, len(shape.classes)))
        return codec.encode_all(requests, probabilities, shape)
