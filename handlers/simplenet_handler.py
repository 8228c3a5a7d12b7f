"""TorchServe's way into SimpleNet Serve: build and verify once, then decode, predict, encode."""

import logging
import os

import numpy as np

from simplenet.errors import RequestError
from simplenet.serving import codec
from simplenet.serving.predictor import Predictor, worker_device


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
        # TorchServe's worker logs a line for every batch at INFO; each would be written while requests wait.
        logging.getLogger().setLevel(os.environ.get("SIMPLENET_LOG_LEVEL", "warning").upper())

    def handle(self, data, context):
        """One answer per request, in order: decode each alone, predict all rows at once, encode each alone."""
        requests = [self._decode(index, fields, context) for index, fields in enumerate(data)]
        accepted = [request for request in requests if isinstance(request, codec.Request)]
        if accepted:
            probabilities = self.predictor.predict(np.concatenate([request.rows for request in accepted]))
            parts = iter(np.split(probabilities, np.cumsum([len(request.rows) for request in accepted])[:-1]))
        return [
            self._refuse(index, request, context)
            if isinstance(request, RequestError)
            else self._answer(index, request, next(parts), context)
            for index, request in enumerate(requests)
        ]

    def _decode(self, index, fields, context):
        try:
            return codec.decode(fields, context.get_all_request_header(index), self.predictor.shape)
        except RequestError as error:
            return error

    def _answer(self, index, request, probabilities, context):
        try:
            body, content_type = codec.encode(probabilities, request, self.predictor.shape)
        except RequestError as error:
            return self._refuse(index, error, context)
        context.set_response_content_type(index, content_type)
        return body

    def _refuse(self, index, error, context):
        body, content_type = codec.encode_error(error)
        context.set_response_content_type(index, content_type)
        context.set_response_status(error.status, error.type, index)
        return body
