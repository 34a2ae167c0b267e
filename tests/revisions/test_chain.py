"""Headers form one line, or it is said which files stand in the way."""

from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lancemig.errors import CatalogAhead, ScriptError, TwoHeads
from lancemig.revisions.chain import RESERVED, RevisionChain, chain_of, heads_of
from lancemig.revisions.header import Header

IDS = st.lists(
    st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.]{0,7}", fullmatch=True).filter(
        lambda t: t.lower() not in RESERVED
    ),
    unique=True,
    max_size=12,
)


def header(revision: str, parent: str | None) -> Header:
    return Header(path=Path(f"versions/{revision}_x.py"), revision=revision, down_revision=parent, sha256="")


def chain(*revisions: str) -> list[Header]:
    return [header(r, p) for p, r in zip([None, *revisions], revisions, strict=False)]


SEVEN = chain_of(chain(*(f"000{n}" for n in range(1, 8))))


def refusal(*headers: Header, error: type[ScriptError] = ScriptError) -> str:
    with pytest.raises(error) as caught:
        chain_of(headers)
    assert type(caught.value) is error
    assert caught.value.next_step
    return caught.value.message


@given(IDS, st.randoms(use_true_random=False))
def test_any_order_of_files_gives_the_same_line(ids, random):
    shuffled = chain(*ids)
    random.shuffle(shuffled)
    assert chain_of(shuffled) == RevisionChain(headers=tuple(chain(*ids)))


@given(IDS, st.data())
def test_every_place_is_found_by_id_and_from_every_other_place(ids, data):
    line = chain_of(chain(*ids))
    places = [None, *ids]
    start, end = (data.draw(st.integers(0, len(ids))) for _ in "ab")
    here, there, steps = places[start], places[end], end - start
    assert line.resolve(there or "base", here) == there
    assert line.resolve(f"{steps:+d}", here) == there
    assert line.resolve(f"current{steps:+d}", here) == there
    assert line.resolve(f"{here or 'base'}{steps:+d}", None) == there
    assert line.resolve(f"head-{len(ids) - end}", None) == there
    assert line.resolve("current", here) == here


@given(IDS, st.data())
def test_there_and_back_is_the_same_way_reversed(ids, data):
    line = chain_of(chain(*ids))
    start, end = sorted(data.draw(st.integers(0, len(ids))) for _ in "ab")
    here, there = (None, *ids)[start], (None, *ids)[end]
    direction, up = line.between(here, there)
    assert (direction, [h.revision for h in up]) == ("up", ids[start:end])
    if start != end:
        assert line.between(there, here) == ("down", up[::-1])
    assert line.upto(here) + up == line.upto(there)


@given(IDS, st.data())
def test_a_prefix_names_a_revision_or_says_why_not(ids, data):
    line = chain_of(chain(*ids))
    text = data.draw(st.sampled_from(ids)) if ids else "x"
    text = text[: data.draw(st.integers(1, len(text)))]
    assume(text not in RESERVED)
    candidates = [text] if text in ids else [revision for revision in ids if revision.startswith(text)]
    if len(candidates) == 1:
        assert line.resolve(text, None) == candidates[0]
    else:
        with pytest.raises(ScriptError):
            line.resolve(text, None)


def test_no_files_are_an_empty_line():
    line = chain_of([])
    assert (line.head, line.revisions) == (None, ())
    assert line.resolve("head", None) is line.resolve("base", None) is None
    assert line.between(None, None) == ("up", ())


def test_an_id_beats_the_longer_ones_it_begins():
    assert chain_of(chain("a", "ab")).resolve("a", None) == "a"


def test_a_word_for_a_place_beats_an_id_it_begins():
    assert chain_of(chain("a", "header", "b")).resolve("head", None) == "b"


def test_an_ambiguous_prefix_names_the_candidates():
    with pytest.raises(ScriptError, match=r"ae1 is ambiguous: ae10 \(.*\), ae11 \(.*\)"):
        chain_of(chain("ae10", "ae11", "b")).resolve("ae1", None)


@pytest.mark.parametrize(
    ("text", "meant"), [("0077", "0007"), ("heads", "head"), ("7", "0007"), ("bse", "base")]
)
def test_an_unknown_revision_names_close_ones(text, meant):
    with pytest.raises(
        ScriptError, match=rf"revision '{text}' does not exist; did you mean .*{meant}"
    ) as caught:
        SEVEN.resolve(text, None)
    assert caught.value.next_step == "lancemig history"


def test_nothing_is_no_prefix_of_anything():
    with pytest.raises(ScriptError, match="revision '' does not exist"):
        SEVEN.resolve("", None)


@pytest.mark.parametrize(
    ("text", "current", "said"),
    [
        ("+3", "0006", "from 0006, the maximum is +1"),
        ("+1", "0007", "0007 is already head"),
        ("-3", "0002", "from 0002, the maximum is -2"),
        ("base-1", "0002", "base is already base"),
        ("0003+9", None, "from 0003, the maximum is +4"),
    ],
)
def test_a_step_beyond_the_end_says_how_far_one_can_go(text, current, said):
    with pytest.raises(ScriptError, match=said.replace("+", r"\+")):
        SEVEN.resolve(text, current)


@pytest.mark.parametrize("text", ["+1", "-1", "current", "current-1"])
def test_counting_from_a_revision_without_a_file_means_the_catalog_is_ahead(text):
    with pytest.raises(
        CatalogAhead, match=r"at revision 0009, but no migration file has this id; the newest file is 0007"
    ) as e:
        SEVEN.resolve(text, "0009")
    assert e.value.exit_status == 3
    assert "git pull" in (e.value.next_step or "")


def test_no_way_leads_from_a_revision_without_a_file():
    with pytest.raises(CatalogAhead):
        SEVEN.between("0009", "0007")
    with pytest.raises(CatalogAhead, match="versions/ has no migration files"):
        RevisionChain().upto("0009")


def test_a_name_can_be_resolved_though_the_catalog_is_ahead():
    assert SEVEN.resolve("head", "0009") == "0007"


def test_no_way_leads_to_an_unknown_target():
    with pytest.raises(ScriptError, match="revision '0009' does not exist"):
        SEVEN.between("0001", "0009")


def test_the_line_knows_its_revisions_and_base():
    assert SEVEN.knows("0001")
    assert SEVEN.knows(None)
    assert not SEVEN.knows("0009")


def test_two_heads_name_both_files_and_rebase():
    headers = [*chain("1", "2"), header("3a", "2"), header("3b", "2")]
    with pytest.raises(TwoHeads) as caught:
        chain_of(headers)
    assert (
        caught.value.message
        == "more than one revision follows 2: 3a (versions/3a_x.py), 3b (versions/3b_x.py)"
    )
    assert caught.value.next_step == "lancemig rebase"
    assert [h.revision for h in heads_of(headers)] == ["3a", "3b"]


def test_two_heads_that_have_grown_apart_are_named_beside_the_fork():
    said = refusal(*chain("1", "2a", "3a"), header("2b", "1"), header("3b", "2b"), error=TwoHeads)
    assert "more than one revision follows 1: 2a (versions/2a_x.py), 2b" in said
    assert "; the heads are 3a (versions/3a_x.py), 3b (versions/3b_x.py)" in said


def test_two_files_with_one_id_and_one_parent_are_two_heads():
    twin = header("2", "1").model_copy(update={"path": Path("versions/2_y.py")})
    said = refusal(*chain("1", "2"), twin, error=TwoHeads)
    assert "versions/2_x.py and versions/2_y.py" in said


def test_two_files_with_one_id_are_named():
    twin = header("1", "2").model_copy(update={"path": Path("versions/1_y.py")})
    assert "two files have the id 1: versions/1_x.py and versions/1_y.py" in refusal(*chain("1", "2"), twin)


def test_two_bases_are_named():
    said = refusal(*chain("1", "2"), header("x", None))
    assert "1 (versions/1_x.py), x (versions/x_x.py)" in said


def test_a_missing_parent_is_named_with_close_ones():
    said = refusal(*chain("0001", "0002"), header("0003", "0020"))
    assert said == (
        "versions/0003_x.py: `down_revision` is '0020', but no file has this id; did you mean 0002 or 0001?"
    )


@pytest.mark.parametrize("outside", [[], chain("1", "2"), [header("x", "b")]])
def test_a_circle_names_its_members_only(outside):
    circle = [header("a", "c"), header("b", "a"), header("c", "b")]
    said = refusal(*outside, *circle)
    assert "form a cycle" in said
    assert all(f"{r} (versions/{r}_x.py)" in said for r in "abc")
    assert "x (versions/x_x.py)" not in said


def test_a_revision_that_follows_itself_is_a_circle():
    assert "form a cycle" in refusal(header("a", "a"))


@pytest.mark.parametrize(
    "revision", ["head", "HEAD", "base", "current", "heads", "+1", "-1", "a-1", "a b", "", "ä", ".a"]
)
def test_an_id_that_the_command_line_could_not_name_is_refused(revision):
    assert repr(revision) in refusal(header(revision, None))
