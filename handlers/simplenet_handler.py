"""TorchServe's entry into SimpleNet Serve: build and verify once, then decode, predict, encode."""

import logging

from simplenet import settings
from simplenet.worker import console, exits, state, wire
from simplenet.worker.decode import decode_or_refuse
from simplenet.worker.encode import encode_all
from simplenet.worker.limits import Limits
from simplenet.worker.messages import RawRequest
from simplenet.worker.predictor import Predictor, worker_device
from simplenet.worker.recovery import batch_budget_s, predict_each


class SimpleNetHandler:
    """Turns batches of HTTP requests into responses; each request succeeds or fails alone."""

    def initialize(self, context):
        """Rebuild the network from the archive on this worker's device; any mismatch is an error."""
        exits.guard()
        console.cut_long_lines()
        properties = context.system_properties
        with exits.children_end():  # from here on the network's own code runs
            self.predictor = Predictor.from_archive(
                properties["model_dir"],
                worker_device(properties.get("gpu_id")),
                (context.model_yaml_config or {}).get("handler") or {},
            )
        self.limits = Limits.of_server()
        self.budget_s = batch_budget_s(context.model_yaml_config)
        level = settings.worker_log_level()
        wire_is_fast = wire.install(self.respond, self.limits.batch, state.progress.touch)
        state.announce(context, self.predictor, wire_is_fast)
        # TorchServe's worker logs a line for every batch at INFO, and requests would wait for it to be written.
        logging.getLogger().setLevel(level)

    def handle(self, data, context):
        """Call `respond` from TorchServe's own service, if the wire is not installed."""
        requests = [RawRequest(b"", context.get_all_request_header(index), fields) for index, fields in enumerate(data)]
        responses = self.respond(requests)
        for index, response in enumerate(responses):
            context.set_response_content_type(index, response.content_type)
            context.set_response_status(response.status, response.phrase, index)
            for name, value in response.headers:
                context.set_response_header(index, name, value)
        state.progress.touch()
        return [response.body for response in responses]

    def respond(self, requests):
        """One response per request, in order: decode each alone, predict all rows at once, encode each alone."""
        spec = self.predictor.spec
        decoded = [decode_or_refuse(request, spec) for request in requests]
        answerable, probabilities = predict_each(self.predictor, decoded, self.budget_s)
        return encode_all(answerable, probabilities, spec, self.limits.response)
