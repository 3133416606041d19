"""What becomes of a worker's places when Redis is lost while it answers for messages."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from kombu import Connection, Queue

from tests.support.servers import redis_server
from worker.processes.letterbox import give_its_place_back

ANSWERS: dict[str, Callable[[Any, Any], None]] = {
    "acknowledged": lambda message, errors: message.ack_log_error(logging.getLogger(), errors),
    "refused": lambda message, errors: message.reject_log_error(logging.getLogger(), errors),
    "given back": lambda message, errors: message.reject_log_error(logging.getLogger(), errors, requeue=True),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_place_is_free_again_though_redis_did_not_hear_the_answer(answer: str) -> None:
    """Found by a link that lost ten replies: a worker that lost two acknowledgements took nothing more, for ever."""
    taken: list[Any] = []
    with redis_server() as redis, Connection(redis.url, transport_options={"socket_timeout": 1}) as connection:
        with connection.SimpleQueue("bells") as bells:
            bells.put({})
        channel = connection.channel()
        channel.basic_qos(0, 1, False)
        consumer = connection.Consumer(Queue("bells"), channel=channel, on_message=taken.append)
        consumer.consume()
        connection.drain_events(timeout=5)
        assert not channel.qos.can_consume()
        give_its_place_back(taken[0])
        redis.kill()

        ANSWERS[answer](taken[0], connection.connection_errors)

        assert channel.qos.can_consume()
