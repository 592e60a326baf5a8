from prefmill.engine.responders.interface import Answer, Failure
from prefmill.pipeline.shards import Footer
from prefmill.pipeline.usage import Usage, total


def test_replies_are_summed():
    replies = [
        Answer("a kite", "stop", 2, prompt_tokens=30, seconds=0.5, cost=0.001),
        Answer("a boat", "length", 5, seconds=2.0),
        Failure("server", "status 500 six times", seconds=1.0, cost=0.002),
    ]
    used = Usage.of(replies)
    assert used == Usage(3, 1, 30, 7, 3.5, 2.0, 0.003)
    assert total([used, Usage.of(replies[1:2])]) == Usage(4, 1, 30, 12, 5.5, 2.0, 0.003)
    assert Usage.of([]) == Usage()


def test_latency_and_cost_do_not_make_two_answers_differ():
    assert Answer("a", "stop", 1, seconds=1.0, cost=2.0) == Answer("a", "stop", 1)


def test_usage_travels_in_a_footer_and_older_footers_have_none():
    footer = Footer("w", (), 1.5, Usage(2, 1, 3, 4, 0.5, 0.25, None))
    assert Footer.decode(footer.encode()[b"prefmill"]) == footer
    plain = Footer("w", (), 1.5)
    assert b"usage" not in plain.encode()[b"prefmill"]
    assert Footer.decode(plain.encode()[b"prefmill"]) == plain
