import pytest
from prefmill.base.errors import PrefmillError
from prefmill.engine.responders.instruction_writer import instruction_request


def test_a_prompt_stands_in_the_request_as_it_is():
    assert instruction_request("a {prompt} with {0}", "Ask about: {prompt}!") == "Ask about: a {prompt} with {0}!"
    with pytest.raises(PrefmillError, match=r"lacks \{prompt\}"):
        instruction_request("a cat", "Ask something.")
