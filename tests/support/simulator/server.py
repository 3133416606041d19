"""Which service answers a request, through the faults and switches; and the process around it."""

import asyncio
import time
from email.utils import formatdate
from typing import Any

from tests.support.simulator import cloud, control, docker, services, sign_in
from tests.support.simulator.faults import response_instead, spoil
from tests.support.simulator.http import Connection, SimulatedRequest, SimulatedResponse
from tests.support.simulator.state import LoggedRequest, State
from tests.support.simulator.status import RESOURCE_EXHAUSTED, RefusedRequestError, StatusError, status_response
from tests.support.simulator.switches import Switches

FRONT_PROXY_BODY = b"stream timeout\nrequest-id: 5a6b0a52-3f1b-4b63-8a0a-0d5a5b6f6a11\ntrace-id: 91d2b1a8c3\n"


class Server:
    """One simulator behind HTTP. A reset replaces `state`, so no other object holds it."""

    def __init__(self, switches: Switches, seed: int = 0) -> None:
        self.state = State(switches, seed)
        self.initial = (switches, seed)
        self._date = (0, "")

    def reset(self) -> None:
        """Everything as at the start; tokens stay as valid as they are, the first one is good again, keys are known."""
        old = self.state
        self.state = State(*self.initial, token=old.token)
        self.state.tokens, self.state.keys = old.tokens | self.state.tokens, old.keys

    def date(self) -> str:
        """The registry's `Date`, formatted once a second."""
        second = int(self.state.now().timestamp())
        if self._date[0] != second:
            self._date = (second, formatdate(second, usegmt=True))
        return self._date[1]

    def answer(self, request: SimulatedRequest) -> SimulatedResponse:
        """Whatever happens, an answer; a mistake of the simulator itself is a 500 that tests notice in `refused`."""
        if request.path.startswith("/_control/"):
            return control.answer(self, request)
        state = self.state
        state.settle()
        asked = self._note(request)
        try:
            response = self._through_faults(request, asked)
        except Exception as error:  # noqa: BLE001 - the border of the process: a crash must reach the test, not the console
            state.refused.append(
                {"request": f"{request.method} {request.path}", "why": f"the simulator failed: {error!r}"}
            )
            response = status_response(13, f"the simulator failed: {error!r}")
        asked.status = response.status if response.fate == "whole" else 0
        return response

    def _note(self, request: SimulatedRequest) -> LoggedRequest:
        query = "&".join(f"{name}={value}" for name, value in request.query)
        image = ""
        if request.path.startswith("/container-registry/v1/images/"):
            image = request.path.rpartition("/")[2]
        key = request.headers.get("idempotency-key", "")
        artifact = request.path.removeprefix(cloud.ARTIFACTS) if request.path.startswith(cloud.ARTIFACTS) else ""
        if artifact:
            image = self.state.artifact_store.image_id(artifact)
        asked = LoggedRequest(self.state.now(), request.method, request.path, query, key, image, artifact)
        self.state.log.append(asked)
        if request.method == "DELETE" and (target := artifact or image):
            self.state.deletes[target] = self.state.deletes.get(target, 0) + 1
        return asked

    def _through_faults(self, request: SimulatedRequest, asked: LoggedRequest) -> SimulatedResponse:
        state = self.state
        target = f"{request.path}?{asked.query}" if asked.query else request.path
        struck = [fault for fault in list(state.faults) if fault.strikes(request.method, target, state.random)]
        asked.faults = [fault.kind for fault in struck]
        self._run(struck, "before", asked)
        if any(fault.kind == "expire_tokens" for fault in struck):
            state.expire_tokens()
        response = next((instead for fault in struck if (instead := response_instead(fault))), None) or self._work(
            request, struck
        )
        self._run(struck, "after", asked)
        for fault in struck:
            response = spoil(fault, response, state.random)
        response.delay += state.switches.latency + state.random.uniform(0, state.switches.latency_jitter)
        return response

    def _run(self, struck: list[Any], when: str, asked: LoggedRequest) -> None:
        """Runs the commands that faults attach to this request. `{image}`, `{artifact}`: those of the request."""
        for fault in struck:
            if fault.kind == "do" and fault.args.get("when", "before") == when:
                for command in fault.args["commands"]:
                    control.run(self, command["command"], control.filled_in(command, asked.image, asked.artifact))

    def _work(self, request: SimulatedRequest, struck: list[Any]) -> SimulatedResponse:
        """The services' own answer."""
        try:
            return self._throttled() or self._route(request, {fault.kind: fault.args for fault in struck})
        except StatusError as error:
            return status_response(error.code, error.message)
        except RefusedRequestError as error:
            self.state.refused.append({"request": f"{request.method} {request.path}", "why": error.message})
            return status_response(3, error.message, error.status)

    def _throttled(self) -> SimulatedResponse | None:
        """The front's own refusals: a broken proxy, and a bucket that holds one second's worth of requests."""
        state, switches = self.state, self.state.switches
        if switches.front_proxy_status:
            return SimulatedResponse(switches.front_proxy_status, FRONT_PROXY_BODY, content_type="text/plain")
        if not switches.requests_per_second:
            return None
        now = time.monotonic()
        full = max(1.0, switches.requests_per_second)
        state.bucket = min(full, state.bucket + (now - state.bucket_at) * switches.requests_per_second)
        state.bucket_at = now
        if state.bucket >= 1:
            state.bucket -= 1
            return None
        response = status_response(RESOURCE_EXHAUSTED, "Request limit exceeded")
        if switches.retry_after:
            response.headers["Retry-After"] = str(switches.retry_after)
        return response

    def _route(self, request: SimulatedRequest, kinds: dict[str, dict[str, Any]]) -> SimulatedResponse:
        path = request.path
        if request.body and request.method in {"GET", "HEAD"}:
            raise RefusedRequestError(f"{request.method} with a body")
        if path.startswith((services.ROOT, "/operations/")):
            sign_in.check_bearer(self.state, request)
            return services.answer(self.state, request, kinds)
        if path.startswith(cloud.ROOT):
            sign_in.check_bearer(self.state, request)
            return cloud.answer(self.state, request, kinds)
        if path.startswith("/v2/"):
            return docker.answer(self.state, request)
        if path.startswith("/iam/"):
            return sign_in.iam(self.state, request)
        if path.startswith("/oauth/"):
            return sign_in.exchange(self.state, request)
        if path.startswith("/computeMetadata/"):
            return sign_in.metadata(self.state, request)
        raise RefusedRequestError(f"{request.method} {path}: no such path", 404)


async def serve(server: Server, port: int) -> None:
    """Listens on loopback until cancelled; says where on standard output."""
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: Connection(server.answer, server.date), "127.0.0.1", port, backlog=512)
    print(f"listening http://127.0.0.1:{listener.sockets[0].getsockname()[1]}", flush=True)  # noqa: T201 - the one line others wait for
    async with listener:
        await listener.serve_forever()
