from collections import Counter
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from residency.platform.records import AnswerKind, Family, Item, Split
from residency.training.evaluation.shuffling import shuffled_media, unshuffled

MakeItem = Callable[..., Item]


def check(items: list[Item], seed: int = 0) -> dict[str, tuple[str, ...]]:
    """Shuffle, and check what must hold of any shuffling."""
    found = shuffled_media(items, seed)
    sets = {item.media for item in items}
    for item in items:
        if item.id in found:
            assert len(found[item.id]) == len(item.media)
            assert found[item.id] in sets
            assert not set(found[item.id]) & set(item.media)
    assert set(unshuffled(items, found)) == {item.id for item in items if item.media} - set(found)
    return found


def test_every_image_is_used_once_and_by_another_patient(make_item: MakeItem) -> None:
    items = [make_item(n, media=(f"m{n // 2}",), cluster=f"patient{n // 4}") for n in range(40)]
    found = check(items)
    assert Counter(found.values()) == Counter(item.media for item in items)
    cluster_of = {item.media: item.cluster for item in items}
    assert all(cluster_of[found[item.id]] != item.cluster for item in items)


def test_the_seed_decides_alone(make_item: MakeItem) -> None:
    items = [make_item(n, media=(f"m{n}",)) for n in range(50)]
    assert shuffled_media(items, 1) == shuffled_media(items, 1)
    assert shuffled_media(items, 1) != shuffled_media(items, 2)


def test_images_are_exchanged_among_items_of_as_many(make_item: MakeItem) -> None:
    one = [make_item(n, media=(f"a{n}",)) for n in range(5)]
    two = [make_item(10 + n, media=(f"b{n}", f"c{n}")) for n in range(4)]
    assert len(check([*one, *two])) == 9


def test_what_cannot_be_shuffled_is_told(make_item: MakeItem) -> None:
    alone = make_item(0, media=("x", "y"))
    bare = make_item(1)
    same = [make_item(2 + n, media=("m",)) for n in range(3)]
    items = [alone, bare, *same]
    assert check(items) == {}
    assert unshuffled(items, {}) == ("q0", "q2", "q3", "q4")


def test_one_image_of_most_items_still_leaves_none_with_its_own(make_item: MakeItem) -> None:
    items = [make_item(n, media=("common",) if n < 8 else (f"m{n}",)) for n in range(10)]
    assert len(check(items)) == 10


def test_one_patient_of_most_items_exchanges_images_by_image(make_item: MakeItem) -> None:
    items = [make_item(n, media=(f"m{n}",), cluster="one") for n in range(10)]
    assert Counter(check(items).values()) == Counter(item.media for item in items)


SETS = st.lists(st.lists(st.sampled_from("abcdefg"), min_size=0, max_size=3, unique=True), max_size=30)


@given(SETS, st.integers(0, 3))
def test_no_item_ever_sees_its_own(sets: list[list[str]], seed: int) -> None:
    items = [
        Item(
            id=f"q{number}",
            content_key="k",
            source="s",
            split=Split.HELD_OUT,
            licence="CC0",
            cluster=f"c{number % 4}",
            media=tuple(media),
            question="q",
            answer="yes",
            answer_kind=AnswerKind.YES_NO,
            family=Family.MEDICAL_MULTIMODAL,
        )
        for number, media in enumerate(sets)
    ]
    found = check(items, seed)
    for item in items:  # left out only where there is no other image at all
        others = [o for o in items if len(o.media) == len(item.media) and not set(o.media) & set(item.media)]
        assert (item.id in found) == bool(item.media and others)
