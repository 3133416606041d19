"""A process that keeps a rate with others: `python -m tests.support.rate_process URL KEY RATE SECONDS THREADS`.

Prints the times at which it was allowed to send, one a line.
"""

import sys
import threading
import time

from worker.registries.http.redis_limit import RedisLimiter


def main(url: str, key: str, rate: float, seconds: float, threads: int) -> None:
    limiter = RedisLimiter(url, key, rate)
    allowed: list[float] = []
    ends = time.monotonic() + seconds

    def work() -> None:
        while time.monotonic() < ends:
            limiter.wait()
            allowed.append(time.time())

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print("\n".join(f"{moment:.6f}" for moment in allowed))  # noqa: T201 - this is what it is for


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *(float(word) for word in sys.argv[3:5]), int(sys.argv[5]))
