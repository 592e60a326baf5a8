"""One holder at a time, told by the store's clock."""

import pytest
from prefmill.base.errors import PrefmillError
from prefmill.pipeline.objects.lease import LEASE, Lease
from prefmill.pipeline.objects.log import LeaseLost


def test_of_two_one_gets_it(bucket):
    first, second = Lease(bucket), Lease(bucket)
    first.take()
    with pytest.raises(PrefmillError, match=r"is in use by process \d+ on ") as caught:
        second.take()
    assert "give the same command again in" in caught.value.fix
    first.renew()
    first.renew()
    first.release()
    second.take()
    with pytest.raises(LeaseLost, match="its lease is now held by process"):
        first.renew()
    first.release()  # of what it does not hold any more
    with pytest.raises(PrefmillError, match="in use"):
        first.take()


def test_it_expires_by_the_stores_clock(bucket, age):
    first, second = Lease(bucket, 100), Lease(bucket)
    first.take()
    age(LEASE, 90)
    with pytest.raises(PrefmillError, match=r"seen 9\d s ago by the store's clock"):
        second.take()
    age(LEASE, 20)
    second.take()
    with pytest.raises(LeaseLost):
        first.renew()
    second.renew()


def test_a_renewal_keeps_it(bucket, age):
    first = Lease(bucket, 100)
    first.take()
    age(LEASE, 200)
    first._etag = bucket.look(LEASE).etag  # which a file's age is part of
    first.renew()
    with pytest.raises(PrefmillError, match="in use"):
        Lease(bucket).take()


def test_who_is_known_to_be_dead_need_not_expire(bucket):
    first, second = Lease(bucket), Lease(bucket)
    first.take()
    second.take(dead=first.token)
    with pytest.raises(LeaseLost):
        first.renew()


def test_of_two_that_see_it_expired_one_gets_it(bucket, monkeypatch):
    first, second, third = Lease(bucket), Lease(bucket), Lease(bucket)
    first.take()
    look = bucket.look

    def slow(name):
        found = look(name)
        monkeypatch.setattr(bucket, "look", look)
        third.take(dead=first.token)
        return found

    monkeypatch.setattr(bucket, "look", slow)
    with pytest.raises(PrefmillError, match="just taken by another"):
        second.take(dead=first.token)


def test_a_renewal_whose_answer_was_lost_is_one(bucket, monkeypatch):
    lease, swap = Lease(bucket), bucket.swap
    lease.take()
    monkeypatch.setattr(bucket, "swap", lambda *given: swap(*given) and None)
    lease.renew()
    monkeypatch.setattr(bucket, "swap", swap)
    lease.renew()


def test_a_lease_that_is_no_lease(bucket):
    bucket.create(LEASE, b"{}")
    with pytest.raises(PrefmillError, match="damaged"):
        Lease(bucket).take()
