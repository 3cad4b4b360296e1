"""gcrf.pools: work in threads, with the results in order."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from gcrf.pools import in_order


def test_results_come_in_order_whichever_is_done_first():
    second = threading.Event()

    def work(item):
        if item == 0:
            assert second.wait(10)
        second.set()
        return item * item

    with ThreadPoolExecutor(2) as pool:
        found = [(item, future.result()) for item, future in in_order(pool, work, range(9), 3)]
    assert found == [(item, item * item) for item in range(9)]


def test_a_slow_consumer_holds_few():
    taken = []

    def items():
        for item in range(100):
            taken.append(item)
            yield item

    with ThreadPoolExecutor(2) as pool:
        results = in_order(pool, str, items(), ahead=3)
        for consumed in range(1, 20):
            next(results)
            assert len(taken) <= consumed + 3 + 1


def test_an_error_is_its_items_own():
    def work(item):
        return 1 / item

    with ThreadPoolExecutor(2) as pool:
        found = dict(in_order(pool, work, [1, 0, 2], 2))
    with pytest.raises(ZeroDivisionError):
        found[0].result()
    assert (found[1].result(), found[2].result()) == (1, 0.5)
