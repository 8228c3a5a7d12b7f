"""The handler that the stock TorchServe peer runs: BaseHandler with its three steps filled in."""

import network
import torch
from ts.torch_handler.base_handler import BaseHandler


class Handler(BaseHandler):
    def initialize(self, context):
        torch.set_num_threads(1)
        super().initialize(context)

    def preprocess(self, data):
        self.kinds, rows = [], []
        for index, fields in enumerate(data):
            body = fields["body"]
            kind = self.context.get_request_header(index, "Content-Type")
            self.kinds.append(kind)
            if kind == "application/octet-stream":
                rows.append(network.raw_rows(body))
            elif kind == "image/png":
                rows.append(network.png_row(body))
            else:
                rows.append(network.json_rows(body["instances"]))
        self.sizes = [len(part) for part in rows]
        return torch.cat([torch.from_numpy(part) for part in rows])

    def postprocess(self, data):
        parts = torch.softmax(data, dim=1).split(self.sizes)
        return [
            part.numpy().tobytes()
            if kind == "application/octet-stream"
            else {"predictions": network.predictions(part.numpy())}
            for kind, part in zip(self.kinds, parts, strict=True)
        ]
