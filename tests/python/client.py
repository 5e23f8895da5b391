"""A client in another language: generated from proto/ by grpcio-tools, it creates, watches, survives the death of a
leader, resumes by token, renews and deletes. It refuses to share code with the Rust clients: only the .proto files.

usage: client.py PROTO_DIR CONTEXT_FILE COMMAND_FILE

It writes a line to COMMAND_FILE.request when it wants the leader killed and goes on when COMMAND_FILE.done exists.
"""

import json
import pathlib
import sys
import tempfile
import time
import uuid

import grpc
from google.protobuf.duration_pb2 import Duration
from grpc_tools import protoc

DEADLINE_SECONDS = 60


def generate(proto_dir):
    """Generates the stubs into a temporary folder and puts it on the path."""
    out = tempfile.mkdtemp(prefix="certwright-python-")
    files = [str(path) for path in sorted(pathlib.Path(proto_dir).glob("certwright/v1/*.proto"))]
    import grpc_tools

    well_known = str(pathlib.Path(grpc_tools.__file__).parent / "_proto")
    status = protoc.main(
        ["protoc", f"-I{proto_dir}", f"-I{well_known}", f"--python_out={out}", f"--grpc_python_out={out}", *files]
    )
    assert status == 0, f"protoc failed with {status}"
    sys.path.insert(0, out)


def connect(context, server):
    """A channel over mutual TLS; servers carry their host in the certificate, so no name override is needed."""
    credentials = grpc.ssl_channel_credentials(
        context["ca"].encode(), context["key"].encode(), context["certificate"].encode()
    )
    return grpc.secure_channel(server, credentials)


class Client:
    """Calls any server, tries the others while one is away, repeats with the same request id."""

    def __init__(self, context):
        self.channels = [connect(context, server) for server in context["servers"]]

    def call(self, stub, method, request):
        end = time.monotonic() + DEADLINE_SECONDS
        while True:
            for channel in self.channels:
                try:
                    return getattr(stub(channel), method)(request, timeout=5)
                except grpc.RpcError as error:
                    if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                        raise
                    last = error
            if time.monotonic() > end:
                raise last
            time.sleep(0.05)

    def watch(self, stub, request, enough):
        """Reads from whichever server answers until `enough(events)`; resumes by token; returns events and token."""
        events, end = [], time.monotonic() + DEADLINE_SECONDS
        token = request.token
        while not enough(events):
            assert time.monotonic() < end, f"watched {len(events)} events, not enough"
            for channel in self.channels:
                try:
                    resumed = type(request)()
                    resumed.CopyFrom(request)
                    resumed.token.CopyFrom(token)
                    for answer in stub(channel).Watch(resumed, timeout=10):
                        token = answer.token
                        if answer.HasField("event"):
                            events.append(answer.event)
                            if enough(events):
                                return events, token
                except grpc.RpcError:
                    time.sleep(0.05)
        return events, token


def main(proto_dir, context_file, command_file):
    generate(proto_dir)
    from certwright.v1 import certificates_pb2, certificates_pb2_grpc, cluster_pb2, cluster_pb2_grpc, types_pb2

    client = Client(json.loads(pathlib.Path(context_file).read_text()))
    certificates = certificates_pb2_grpc.CertificatesStub
    events_stub = cluster_pb2_grpc.EventsStub
    name = "namespaces/python/certificates/from-python"

    # Create, and watch it from the token that came with the answer.
    request = certificates_pb2.CreateCertificateRequest(request_id=str(uuid.uuid4()))
    request.certificate.name = name
    request.certificate.spec.dns_names.append("python.example.com")
    request.certificate.spec.issuer = "demo"
    request.certificate.spec.duration.CopyFrom(Duration(seconds=3600))
    created = client.call(certificates, "CreateCertificate", request)
    assert created.certificate.name == name, created
    repeated = client.call(certificates, "CreateCertificate", request)
    assert repeated.certificate.uid == created.certificate.uid, "the same request id made another certificate"
    watch = cluster_pb2.WatchRequest(from_index=1, follow=True, stream_prefix="namespaces/python/")
    seen, token = client.watch(events_stub, watch, lambda events: len(events) >= 1)
    assert seen[0].type == "CertificateDeclared", seen[0]

    # The leader dies; the same client goes on, and its watch resumes without a gap or a repeat.
    pathlib.Path(command_file + ".request").write_text("kill leader\n")
    end = time.monotonic() + DEADLINE_SECONDS
    while not pathlib.Path(command_file + ".done").exists():
        assert time.monotonic() < end, "nobody killed the leader"
        time.sleep(0.02)
    update = certificates_pb2.UpdateCertificateRequest(request_id=str(uuid.uuid4()))
    update.certificate.CopyFrom(created.certificate)
    update.certificate.spec.dns_names.append("snake.example.com")
    updated = client.call(certificates, "UpdateCertificate", update)
    assert list(updated.certificate.spec.dns_names) == ["python.example.com", "snake.example.com"]
    watch.token.CopyFrom(token)
    seen, token = client.watch(events_stub, watch, lambda events: len(events) >= 1)
    assert [event.type for event in seen] == ["CertificateUpdated"], seen

    # Renew and delete, conditionally.
    client.call(certificates, "RenewCertificate", certificates_pb2.RenewCertificateRequest(name=name))
    stale = certificates_pb2.DeleteCertificateRequest(name=name, etag=created.certificate.etag)
    try:
        client.call(certificates, "DeleteCertificate", stale)
        raise AssertionError("a stale etag deleted the certificate")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.ABORTED, error
    client.call(certificates, "DeleteCertificate", certificates_pb2.DeleteCertificateRequest(name=name))
    watch.token.CopyFrom(token)
    seen, _ = client.watch(events_stub, watch, lambda events: any(e.type == "CertificateDeleted" for e in events))
    indexes = [(event.index, event.ordinal, event.number) for event in seen]
    assert indexes == sorted(set(indexes)), "events out of order or repeated"
    assert types_pb2.Token(value=token.value) == token
    print("python client: ok")


if __name__ == "__main__":
    main(*sys.argv[1:])
