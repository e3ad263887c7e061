"""Goal: a replica never thinks that its session lives longer than the ensemble does.

Method: directed cases, and an ensemble in virtual time that ends a session its timeout after the last question arrived,
over a network with any delay.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from photinus_core.sequencing.session_time import CERTAIN_PART, SessionTime

TIMEOUT_S = 6.0


def test_certainty_ends_before_the_session_does() -> None:
    session = SessionTime(TIMEOUT_S, 100.0)
    assert session.question_every_s < TIMEOUT_S * CERTAIN_PART / 3
    assert session.is_certain(103.9)
    assert not session.is_certain(104.1)
    assert not session.is_over(105.9)
    assert session.is_over(106.0)


def test_an_answer_counts_from_its_question_and_late_ones_take_nothing_back() -> None:
    session = SessionTime(TIMEOUT_S, 0.0)
    session.confirmed(10.0)
    session.confirmed(5.0)
    assert session.is_certain(13.9)
    assert session.is_over(16.0)


@given(
    st.lists(
        st.tuples(st.floats(0.01, 3.0), st.floats(0.0, 5.0), st.floats(0.0, 5.0)), max_size=20
    ),
    st.floats(0.0, 20.0),
)
def test_no_certainty_after_the_ensemble_ended_it(
    questions: list[tuple[float, float, float]], later: float
) -> None:
    """Each question has a pause before it, a way there and a way back."""
    now, session = 0.0, SessionTime(TIMEOUT_S, 0.0)
    ends = TIMEOUT_S
    answers = list[tuple[float, float]]()
    for pause, there, back in questions:
        now += pause
        if now + there < ends:
            ends = max(ends, now + there + TIMEOUT_S)
            answers.append((now + there + back, now))
    for seen, sent in sorted(answers):
        session.confirmed(sent)
        assert not (session.is_certain(seen) and seen >= ends)
    moment = max([now, *(seen for seen, _ in answers)]) + later
    if moment >= ends:
        assert not session.is_certain(moment)
        assert session.is_over(moment)
