"""Sorts sampled stacks into the steps of an issuance and prints CPU microseconds per certificate.

A sample belongs to the first step that one of its functions names, seen from the innermost; a thread that does one
thing only names the step of what is left. What nothing names is shown as it is: no share is guessed.
"""

import collections
import json
import re
import sys

# (step, what a function of that step is called). Order matters only within one function's name.
CURVE = "P-256 arithmetic"
# What one signature and one verification cost with this library and machine, in any unit: they share their arithmetic.
SIGN_COST, VERIFY_COST = 62, 203

STEPS = [
    ("TLS records and handshakes", r"rustls|aes_gcm|gcm_|AES_|aead"),
    ("verify the request (CSR)", r"x509::csr|VerifiedCsr"),
    ("verify the signature made", r"Linted::assemble|Linted>::assemble"),
    ("sign", r"sign_here|custody::.*sign|AuthorityKey"),
    ("compose and lint", r"x509::(compose|lint|facts|names|der|usage)|policy::evaluate"),
    ("fsync wait and log writes", r"wal::writer|wal::segment|fdatasync|sync_data|do_fsync|sync_file_range"),
    ("project", r"certwright_raft::projection|certwright_issuance::projector|sled"),
    ("apply", r"fold::(machine|shared|replica|dedup)|State.*apply|core::sm::worker"),
    ("decide", r"sequencer|core::decide|overlay"),
    ("replicate (consensus and its RPC)", r"openraft|certwright_raft::(peer|consensus|handle)"),
    ("encode and decode messages", r"prost|certwright_proto"),
    ("serve callers (gRPC, HTTP/2)", r"certwright_api|tonic|hyper|h2::|tower"),
]
THREADS = [
    ("fsync wait and log writes", r"^wal"),
    ("project", r"^(projection|sled-io|log flusher|sled)"),
    ("snapshots", r"^snapshot"),
]
# Functions written in assembly and libc's allocator keep no frame pointer: their callers are not seen.
LEAVES = [
    (CURVE, r"nistz256|beeu_|bignum_|bn_mul_mont|ord_(sqr|mul)|sha(256|512)_block"),
    ("allocate and free memory", r"malloc|calloc|realloc|_int_free|cfree|unlink_chunk|sysmalloc|memalign|memmove|memset|memcmp|memcpy"),
    ("wake-ups between threads", r"finish_task_switch|irqentry|spin_unlock|softirq|epoll|futex|tokio|__get_user|clock_gettime|fdget|syscall"),
]
RUNTIME = "without a step"
LOAD = "the load itself (client process)"


def stacks(path):
    head, frames = None, []
    for line in open(path, errors="replace"):
        if not line.strip():
            if head:
                yield head, frames
            head, frames = None, []
        elif head is None:
            match = re.match(r"\s*(.+?)\s+(\d+)/(\d+)\s+([\d.]+):", line)
            head = (match[1], int(match[2]), float(match[4])) if match else None
        else:
            frames.append(line.split(None, 1)[1].strip() if len(line.split(None, 1)) > 1 else "")
    if head:
        yield head, frames


def step_of(comm, frames):
    for frame in frames:
        for step, pattern in STEPS:
            if re.search(pattern, frame):
                return step
    for step, pattern in THREADS:
        if re.search(pattern, comm):
            return step
    for step, pattern in LEAVES:
        if any(re.search(pattern, frame) for frame in frames[:3]):
            return step
    return RUNTIME


def share_out_curve(counted):
    """A certificate takes one signature and two verifications: of the request, and of the signature just made."""
    samples = counted.pop(CURVE, 0)
    whole = SIGN_COST + 2 * VERIFY_COST
    counted["sign"] += samples * SIGN_COST / whole
    counted["verify the request (CSR)"] += samples * VERIFY_COST / whole
    counted["verify the signature made"] += samples * VERIFY_COST / whole


def main():
    bench = json.loads(open(sys.argv[1]).read().strip().splitlines()[-1])
    samples = list(stacks(sys.argv[2]))
    # The client is the process that was recorded first.
    client = samples[0][0][1]
    # Start-up and reading back are not issuing: only the busy stretch counts, the measured seconds before the end of it.
    busy = [time for (_, pid, time), _ in samples if pid == client]
    per_second = collections.Counter(int(time) for time in busy)
    best = max(per_second, key=lambda second: sum(per_second[second + n] for n in range(bench["seconds"])))
    inside = [(head, frames) for head, frames in samples if best + 0.5 <= head[2] < best + bench["seconds"] - 0.5]
    seconds = bench["seconds"] - 1
    certificates = bench["certificates_per_second"] * seconds
    counted = collections.Counter()
    rest = collections.Counter()
    for (comm, pid, _), frames in inside:
        step = LOAD if pid == client else step_of(comm, frames)
        counted[step] += 1
        if step == RUNTIME:
            rest[frames[0] if frames else comm] += 1
    share_out_curve(counted)
    micros = 1e6 / 499 / certificates
    print(f"{bench['certificates_per_second']} certificates/s, {bench['callers']} callers, {seconds} s sampled\n")
    print("| step | CPU µs per certificate | share |\n|---|---|---|")
    for step, count in counted.most_common():
        print(f"| {step} | {count * micros:.0f} | {100 * count / len(inside):.1f} % |")
    print(f"| all | {len(inside) * micros:.0f} | |")
    named = 100 * (1 - counted[RUNTIME] / len(inside))
    print(f"\n{named:.1f} % of all CPU time has a step. Most of the rest: {', '.join(f for f, _ in rest.most_common(6))}")


main()
