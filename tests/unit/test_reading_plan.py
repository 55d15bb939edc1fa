"""Which page is next, how many may be in flight, and what follows a bad answer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inkstick.document import Flag
from inkstick.engines.protocol import Load
from inkstick.profile import Priority
from inkstick.reading.capacity import Capacity, steer
from inkstick.reading.ladder import MOST_TRIES, UNANSWERED, Outcome, Try, Way, best, flags, next_way, poisonous
from inkstick.reading.plan import FAIR, Candidate, bulk_share, choose

candidates = st.lists(
    st.builds(
        Candidate,
        priority=st.sampled_from([int(p) for p in Priority]),
        order=st.integers(0, 50),
        page=st.integers(1, 3000),
        remaining=st.integers(1, 3000),
    ),
    min_size=1,
    max_size=20,
)


@given(candidates, st.integers(0, 100))
def test_a_higher_class_always_goes_first(offered: list[Candidate], turn: int) -> None:
    assert offered[choose(offered, turn)].priority == min(c.priority for c in offered)


@given(candidates)
def test_the_oldest_document_of_the_class_is_reached_within_a_few_turns(offered: list[Candidate]) -> None:
    chosen = {offered[choose(offered, turn)].order for turn in range(FAIR)}
    top = [c for c in offered if c.priority == min(o.priority for o in offered)]
    assert min(c.order for c in top) in chosen


def test_one_page_of_a_person_overtakes_three_thousand() -> None:
    batch = Candidate(Priority.PERSON, order=1, page=10, remaining=2990)
    upload = Candidate(Priority.PERSON, order=2, page=1, remaining=1)
    assert choose([batch, upload], turn=0) == 1


def test_bulk_makes_room_while_a_person_waits_but_never_stops() -> None:
    assert bulk_share(64, person=False) == 64
    assert 1 <= bulk_share(64, person=True) <= 32
    assert bulk_share(1, person=True) == 1


loads = st.one_of(
    st.none(), st.builds(Load, waiting=st.integers(0, 100), cache_usage=st.floats(0, 1), running=st.integers(0, 64))
)


@given(st.integers(1, 128), st.lists(st.tuples(loads, st.integers(0, 128), st.integers(0, 3)), max_size=40))
def test_the_limit_stays_within_its_bounds(ceiling: int, looks: list[tuple[Load | None, int, int]]) -> None:
    capacity = Capacity.at(ceiling)
    for load, in_flight, refused in looks:
        capacity = steer(capacity, load=load, in_flight=in_flight, refused=refused)
        assert 1 <= capacity.limit <= capacity.ceiling


def test_refusals_and_a_long_queue_halve_and_a_free_engine_raises_again() -> None:
    full = Capacity.at(64)
    assert steer(full, load=None, in_flight=64, refused=1).limit == 32
    assert steer(full, load=Load(waiting=40), in_flight=64, refused=0).limit == 32
    half = Capacity(64, 32)
    assert steer(half, load=Load(waiting=0), in_flight=32, refused=0).limit > 32
    assert steer(half, load=Load(waiting=0), in_flight=20, refused=0).limit == 32, "no need shown, no raise"
    assert steer(half, load=Load(waiting=3), in_flight=32, refused=0).limit == 32
    assert steer(half, load=Load(cache_usage=0.95), in_flight=32, refused=0).limit == 32


def test_a_decision_is_not_repeated_before_it_has_taken_effect() -> None:
    assert steer(Capacity(64, 32), load=Load(waiting=40), in_flight=60, refused=2).limit == 32


outcomes = st.sampled_from(list(Outcome))


@given(st.lists(outcomes, min_size=20, max_size=20), st.booleans(), st.booleans())
def test_every_ladder_ends_and_uses_only_what_there_is(ends: list[Outcome], can_tile: bool, has_other: bool) -> None:
    tries: list[Try] = []
    way: Way | None = Way.WHOLE
    while way is not None:
        tries.append(Try(way, ends[len(tries)]))
        way = next_way(tries, can_tile=can_tile, has_other=has_other)
        assert len(tries) <= MOST_TRIES
    used = [tried.way for tried in tries]
    assert used.count(Way.TILES) <= can_tile
    assert used.count(Way.OTHER) <= has_other
    settled = best(tries)
    assert (settled is None) == all(tried.outcome in UNANSWERED for tried in tries)
    told = flags(tries, settled)
    assert (Flag.REPETITION in told) == any(tried.outcome is Outcome.REPETITION for tried in tries)
    if settled is not None and tries[settled].outcome is not Outcome.GOOD:
        assert Flag.SUSPECT in told


def test_a_good_answer_needs_no_second_try() -> None:
    assert next_way([Try(Way.WHOLE, Outcome.GOOD)], can_tile=True, has_other=True) is None


def test_repetition_is_retried_twice_then_tiled_then_given_to_the_other_engine() -> None:
    tries = [Try(Way.WHOLE, Outcome.REPETITION)]
    taken = []
    while (way := next_way(tries, can_tile=True, has_other=True)) is not None:
        taken.append(way)
        tries.append(Try(way, Outcome.REPETITION))
    assert taken == [Way.WHOLE, Way.WHOLE, Way.TILES, Way.OTHER]


def test_truncation_is_never_retried_as_it_is() -> None:
    assert next_way([Try(Way.WHOLE, Outcome.TRUNCATED)], can_tile=True, has_other=True) is Way.TILES
    assert next_way([Try(Way.WHOLE, Outcome.TRUNCATED)], can_tile=False, has_other=True) is Way.OTHER
    assert next_way([Try(Way.TILES, Outcome.TRUNCATED)], can_tile=False, has_other=False) is None


def test_coordinates_alone_ask_the_plain_prompt() -> None:
    assert next_way([Try(Way.WHOLE, Outcome.COORDINATES)], can_tile=True, has_other=True) is Way.PLAIN


def test_the_better_of_two_bad_answers_is_settled_for() -> None:
    tries = [Try(Way.WHOLE, Outcome.TRUNCATED), Try(Way.TILES, Outcome.SUSPECT), Try(Way.OTHER, Outcome.EMPTY)]
    assert best(tries) == 1
    assert flags(tries, 1) == {Flag.TRUNCATED, Flag.TILED, Flag.SUSPECT}


def test_a_page_is_poison_only_if_it_was_alone_and_others_can_be_read() -> None:
    assert poisonous(2, others_read=True)
    assert not poisonous(1, others_read=True)
    assert not poisonous(9, others_read=False)
