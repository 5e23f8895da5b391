"""A receiver of OpenTelemetry traces over OTLP/gRPC: the official protocol definitions, Python's gRPC, a file.
It refuses to understand what it gets: every span is one line of JSON, the tests do the rest.

usage: otlp.py PORT FILE [KEY CERTIFICATE]

It writes FILE.ready once it listens; with a key and a certificate (PEM files) it speaks TLS only.
"""

import json
import pathlib
import signal
import sys
from concurrent import futures

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


def value(any_value):
    """A plain value; lists and maps do not occur."""
    return getattr(any_value, any_value.WhichOneof("value") or "string_value")


def attributes(pairs):
    return {pair.key: value(pair.value) for pair in pairs}


def spans(request):
    for group in request.resource_spans:
        resource = attributes(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                yield {
                    "service": resource.get("service.name", ""),
                    "pid": resource.get("process.pid", 0),
                    "trace": span.trace_id.hex(),
                    "span": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "name": span.name,
                    "start": span.start_time_unix_nano,
                    "end": span.end_time_unix_nano,
                    "attributes": attributes(span.attributes),
                    "events": [[event.name, attributes(event.attributes)] for event in span.events],
                    "links": [link.trace_id.hex() for link in span.links],
                }


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, file):
        self.file = file

    def Export(self, request, context):
        for span in spans(request):
            self.file.write(json.dumps(span) + "\n")
        self.file.flush()
        return trace_service_pb2.ExportTraceServiceResponse()


def main():
    port, path = sys.argv[1], pathlib.Path(sys.argv[2])
    with path.open("a") as file:
        server = grpc.server(futures.ThreadPoolExecutor(max_workers=1))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Receiver(file), server)
        if len(sys.argv) > 3:
            pair = tuple(pathlib.Path(name).read_bytes() for name in sys.argv[3:5])
            server.add_secure_port(f"127.0.0.1:{port}", grpc.ssl_server_credentials([pair]))
        else:
            server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        path.with_suffix(".ready").touch()
        signal.sigwait([signal.SIGTERM])


if __name__ == "__main__":
    main()
