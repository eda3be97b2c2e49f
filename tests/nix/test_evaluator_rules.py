"""What is a job, what is opened, what is known of a job, and what evaluation may not do; by our own evaluator."""

import json
import subprocess
from pathlib import Path

import pytest

from nixmill.core.evaluation import (
    Argument,
    Attribute,
    EvalFault,
    EvaluationFailedError,
    EvaluationLimits,
    EvaluationSettings,
    EvaluationTrace,
    ExpressionTarget,
    FlakeTarget,
    ImportFromDerivation,
)
from nixmill.edge.evaluator import OwnEvaluator
from nixmill.nix.attr_path import AttrPath, quote
from tests.support.eval_project import JOB, Project, bad, collect, ended, good, of, project, request
from tests.support.scratch_store import ScratchStore

NAMES = ["a.b", "a/b", 'q"q', "a b", "${x}", "new\nline", "..", "", "é→𝄞", "back\\slash", "in", "0", "$", "''", "\t"]


@pytest.fixture
def evaluator(store: ScratchStore) -> OwnEvaluator:
    return OwnEvaluator(store.environment)


def expression(text: str, tmp_path: Path, attr: AttrPath = ()) -> ExpressionTarget:
    return ExpressionTarget(text=text, tree_path=str(tmp_path), attr=attr)


async def test_names_survive_exactly(evaluator: OwnEvaluator, tmp_path: Path) -> None:
    opened = "recurseForDerivations = true;"
    sets = "\n".join(f'{quote(name)} = {{ {opened} {quote(name)} = job "x"; }};' for name in NAMES)
    made = project(
        tmp_path,
        {
            "default.nix": f"let {JOB} in {{ {sets} }}",
            "flake.nix": "{ outputs = _: { checks.x86_64-linux = import ./.; }; }",
        },
    )

    for target, prefix in ((made.file(), ()), (made.flake("checks"), ("checks", "x86_64-linux"))):
        records = await collect(evaluator, request(target))
        assert good(records).keys() == {(*prefix, name, name) for name in NAMES}
        assert not bad(records)
        chosen = await collect(evaluator, request(made.file(attr=("new\nline", "new\nline"))))
        assert good(chosen).keys() == {("new\nline", "new\nline")}


RULES = f"""
let {JOB} in {{
  job = job "job";
  opened = {{
    recurseForDerivations = true; inner = job "inner"; deeper = {{ recurseForDerivations = true; x = job "x"; }};
  }};
  shut = {{ inner = throw "must not be looked at"; }};
  refused = {{ recurseForDerivations = false; inner = job "y"; }};
  list = [ (job "z") ]; number = 1; nothing = null; function = x: x; text = "text"; path = ./.;
  called = {{ x ? 1 }}: job "called";
  needy = {{ x }}: job "needy";
  functor = {{ __functor = self: {{ ... }}: job "functor"; }};
}}
"""


async def test_sets_are_opened_when_they_say_so(evaluator: OwnEvaluator, tmp_path: Path) -> None:
    records = await collect(evaluator, request(expression(RULES, tmp_path)))

    paths = {("job",), ("opened", "inner"), ("opened", "deeper", "x"), ("called",), ("functor",)}
    assert good(records).keys() == paths
    [(path, error)] = bad(records).items()
    assert path == ("needy",)
    assert "without a value ('x')" in error.message


async def test_force_recurse_opens_everything(evaluator: OwnEvaluator, tmp_path: Path) -> None:
    settings = EvaluationSettings(force_recurse=True)

    records = await collect(evaluator, request(expression(RULES, tmp_path), settings=settings))

    assert ("refused", "inner") in good(records)
    assert bad(records).keys() == {("shut", "inner"), ("needy",)}


async def test_a_set_that_contains_itself_ends_in_one_error(evaluator: OwnEvaluator, tmp_path: Path) -> None:
    text = f'let {JOB} s = {{ recurseForDerivations = true; me = s; x = job "x"; }}; in s'

    records = await collect(evaluator, request(expression(text, tmp_path)))

    [(path, error)] = bad(records).items()
    assert path == ("me",) * 20
    assert "too deep" in error.message
    assert len(good(records)) == 20


FLAKE = f"""
{{ outputs = {{ self }}: let {JOB} on = system: name: (job name) // {{ inherit system; }}; in {{
  checks.x86_64-linux = {{
    a = job "a"; set = {{ b = job "b"; }}; open = {{ recurseForDerivations = true; c = job "c"; }};
  }};
  checks.aarch64-linux = throw "must not be opened";
  packages.x86_64-linux.p = job "p";
  packages.aarch64-linux.p = on "aarch64-linux" "p";
  legacyPackages.x86_64-linux = {{ l = job "l"; shut = {{ x = throw "no"; }}; }};
  devShells.x86_64-linux.default = job "shell";
  hydraJobs = {{
    tests.x86_64-linux = job "t"; tests.aarch64-linux = on "aarch64-linux" "t";
    plain = job "plain"; shut.x = throw "no";
  }};
  lib.x = throw "no"; overlays.default = throw "no";
}}; }}
"""


async def test_standard_outputs_of_a_flake_are_opened_down_to_their_systems(
    evaluator: OwnEvaluator, tmp_path: Path
) -> None:
    made = project(tmp_path, {"flake.nix": FLAKE})
    x86 = "x86_64-linux"
    wanted: dict[AttrPath, set[AttrPath]] = {
        ("checks",): {("checks", x86, "a"), ("checks", x86, "open", "c")},
        ("packages",): {("packages", x86, "p")},
        ("legacyPackages",): {("legacyPackages", x86, "l")},
        ("devShells",): {("devShells", x86, "default")},
        ("hydraJobs",): {("hydraJobs", "tests", x86), ("hydraJobs", "plain")},
    }
    settings = EvaluationSettings(systems=(x86,))
    for attr, paths in wanted.items():
        records = await collect(evaluator, request(made.flake(*attr), settings=settings))
        assert good(records).keys() == paths
        assert not bad(records)
    everything = await collect(evaluator, request(made.flake(), settings=settings))
    assert good(everything).keys() == set().union(*wanted.values())
    several = await collect(evaluator, request(made.flake("checks"), made.flake("packages"), settings=settings))
    assert good(several).keys() == wanted["checks",] | wanted["packages",]


async def test_without_systems_all_are_wanted(evaluator: OwnEvaluator, tmp_path: Path) -> None:
    made = project(tmp_path, {"flake.nix": FLAKE})

    packages = good(await collect(evaluator, request(made.flake("packages"))))
    jobs = good(await collect(evaluator, request(made.flake("hydraJobs"))))
    chosen = good(await collect(evaluator, request(made.flake("checks", "x86_64-linux", "a"))))

    assert {record.system for record in packages.values()} == {"x86_64-linux", "aarch64-linux"}
    assert ("hydraJobs", "tests", "aarch64-linux") in jobs
    assert chosen.keys() == {("checks", "x86_64-linux", "a")}


async def test_arguments_reach_the_root_and_are_restricted_to_what_it_takes(
    evaluator: OwnEvaluator, tmp_path: Path
) -> None:
    made = project(
        tmp_path,
        {
            "named.nix": f'{{ n, s ? "d" }}: let {JOB} in {{ x = job (s + toString (n + 1)); }}',
            "any.nix": f"{{ s, ... }}@all: let {JOB} in {{ x = job (s + toString (builtins.attrNames all)); }}",
        },
    )
    settings = EvaluationSettings(
        arguments=(
            Argument(name="n", value="20 + 21 # a comment", is_string=False),
            Argument(name="s", value='${str}"', is_string=True),
            Argument(name="unused", value="throw 1", is_string=False),
        )
    )
    plain = EvaluationSettings(arguments=(settings.arguments[0],))

    assert good(await collect(evaluator, request(made.file("named.nix"), settings=plain)))["x",].name == "d42"
    error = bad(await collect(evaluator, request(made.file("named.nix"), settings=settings)))["x",]
    assert '${str}"42' in error.message.replace("\\", "")
    with pytest.raises(EvaluationFailedError, match="without a value \\('s'\\)"):
        await collect(evaluator, request(made.file("any.nix"), settings=plain))
    error = bad(await collect(evaluator, request(made.file("any.nix"), settings=settings)))["x",]
    assert "n s unused" in error.message


async def test_what_is_known_of_a_job(evaluator: OwnEvaluator, tmp_path: Path) -> None:
    text = """
    let d = derivation { name = "n-1"; system = "x86_64-linux"; builder = "/bin/sh"; outputs = [ "out" "dev" ]; };
    in {
      full = d // { meta = { description = "words \\"é\\"";
                             maintainers = [ { email = "a@b"; } { name = "N"; } "s" { } ];
                             timeout = 60; maxSilent = 30; }; };
      odd = d // { meta = { description = 1; maintainers = null; timeout = "x"; }; };
      worse = d // { meta = throw "meta is broken"; };
      worst = d // { meta.description = 1 + "a"; };
    }
    """
    found = good(await collect(evaluator, request(expression(text, tmp_path))))

    full = found["full",]
    assert (full.name, full.system) == ("n-1", "x86_64-linux")
    assert set(full.outputs) == {"out", "dev"}
    assert full.drv_path.endswith("-n-1.drv")
    assert full.description == 'words "é"'
    assert full.maintainers == ("a@b", "N", "s")
    assert (full.timeout_s, full.max_silent_s) == (60, 30)
    assert found["odd",].description == ""
    assert found["odd",].timeout_s is None
    assert found.keys() == {("full",), ("odd",), ("worse",), ("worst",)}
    assert any("meta is broken" in trace for trace in found["worse",].traces)
    assert any("cannot add" in trace for trace in found["worst",].traces)


async def test_a_set_that_only_pretends_to_be_a_derivation_is_an_error(evaluator: OwnEvaluator, tmp_path: Path) -> None:
    text = """{
      a = { type = "derivation"; name = "a"; drvPath = "/etc/passwd"; outPath = "/x"; };
      b = { type = "derivation"; name = [ ]; drvPath = "x"; outPath = "x"; };
      c = { type = "derivation"; };
    }"""

    records = await collect(evaluator, request(expression(text, tmp_path)))

    assert bad(records).keys() == {("a",), ("b",), ("c",)}
    assert not good(records)


async def test_traces_and_warnings_stay_with_their_attribute(evaluator: OwnEvaluator, tmp_path: Path) -> None:
    text = f"""let {JOB} in builtins.trace "at the root" {{
      a = builtins.trace "seen in a\\nsecond" (job "a");
      b = builtins.trace {{ x = 1; }} (throw "b fails");
      c = job "c";
      d = builtins.trace "a set" {{ recurseForDerivations = true; e = job "e"; }};
    }}"""

    records = await collect(evaluator, request(expression(text, tmp_path)))

    assert good(records)["a",].traces == ("seen in a\nsecond",)
    assert good(records)["c",].traces == ()
    [trace] = bad(records)["b",].traces
    assert "x = 1" in trace
    assert {record.text for record in of(records, EvaluationTrace)} == {"at the root", "a set"}


async def test_the_text_of_a_project_is_never_taken_for_the_walkers(evaluator: OwnEvaluator, tmp_path: Path) -> None:
    text = f'let {JOB} in {{ a = builtins.trace "nixmill-0000000000000000-j{{}}" (job "a"); }}'

    records = await collect(evaluator, request(expression(text, tmp_path)))

    assert len(good(records)["a",].traces) == 1


IFD = f"""
let {JOB}
  made = derivation {{
    name = "made"; system = "x86_64-linux"; builder = "/bin/sh";
    args = [ "-c" "/bin/sleep 0.3; echo '\\"made\\"' > $out" ];
  }};
in {{ a = job (import made); b = job "b"; }}
"""


async def test_import_from_derivation_is_refused_to_that_attribute_only(
    evaluator: OwnEvaluator, tmp_path: Path
) -> None:
    records = await collect(evaluator, request(expression(IFD, tmp_path)))

    assert bad(records)["a",].fault is EvalFault.IMPORT_FROM_DERIVATION
    assert good(records).keys() == {("b",)}
    assert not of(records, ImportFromDerivation)


@pytest.mark.parametrize("mode", ["expression", "flake"])
async def test_where_import_from_derivation_is_allowed_each_build_is_recorded(
    fresh_store: ScratchStore, tmp_path: Path, mode: str
) -> None:
    made = project(tmp_path, {"flake.nix": f"{{ outputs = _: {{ checks.x86_64-linux = {IFD}; }}; }}"})
    target = expression(IFD, tmp_path) if mode == "expression" else made.flake("checks")
    settings = EvaluationSettings(allow_import_from_derivation=True)

    records = await collect(OwnEvaluator(fresh_store.environment), request(target, settings=settings))

    assert {path[-1] for path in good(records)} == {"a", "b"}
    [build] = of(records, ImportFromDerivation)
    assert build.drv_path.endswith("-made.drv")
    assert build.path is not None
    assert build.path[-1] == "a"
    assert 0.25 < build.seconds < 60
    a = next(record for path, record in good(records).items() if path[-1] == "a")
    assert a.name == "made"


def names_in(store: ScratchStore) -> set[str]:
    return {path.name.split("-", 1)[1] for path in Path(store.store_dir).iterdir() if path.name != ".links"}


async def test_a_derivation_that_is_only_named_is_not_built(fresh_store: ScratchStore, tmp_path: Path) -> None:
    text = f"""let {JOB}
      costly = derivation {{
        name = "costly"; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" "echo > $out" ];
      }};
    in {{
      step = (job "step") // {{ command = costly; }};
      named = derivation {{ name = "named"; system = "x86_64-linux"; builder = "/bin/sh";
                           command = builtins.unsafeDiscardStringContext costly.drvPath; }};
      used = derivation {{ name = "used"; system = "x86_64-linux"; builder = "/bin/sh"; command = costly; }};
    }}"""
    settings = EvaluationSettings(allow_import_from_derivation=True)

    records = await collect(
        OwnEvaluator(fresh_store.environment), request(expression(text, tmp_path), settings=settings)
    )

    assert len(good(records)) == 3
    assert not of(records, ImportFromDerivation)
    assert names_in(fresh_store) == {"costly.drv", "step.drv", "named.drv", "used.drv"}


async def test_flakes_are_pure_and_their_configuration_is_not_taken(store: ScratchStore, tmp_path: Path) -> None:
    text = f"""{{
      nixConfig = {{ allow-import-from-derivation = true; pure-eval = false; }};
      outputs = _: let {JOB} in {{ checks.x86_64-linux = {{
        impure = job "${{toString (builtins ? currentTime || builtins ? currentSystem)}}x";
        home = job "${{builtins.getEnv "HOME"}}x";
        path = job "${{builtins.readFile "/etc/hostname"}}x";
        search = job "${{toString (builtins.length builtins.nixPath)}}x";
        store = job "${{builtins.readFile "{store.store_dir}/../home/secret"}}x";
        ifd = job (import (derivation {{ name = "i"; system = "x86_64-linux"; builder = "/bin/sh"; }}));
      }}; }}; }}"""
    made = project(tmp_path, {"flake.nix": text})
    (store.root / "home/secret").write_text("secret")

    for accept in ("false", "true"):
        environment = store.environment | {
            "NIX_CONFIG": store.environment["NIX_CONFIG"] + f"accept-flake-config = {accept}\n"
        }
        records = await collect(OwnEvaluator(environment), request(made.flake("checks")))
        names = {path[-1]: record.name for path, record in good(records).items()}
        assert names == {"impure": "x", "home": "x", "search": "0x"}
        errors = {path[-1]: record for path, record in bad(records).items()}
        assert errors.keys() == {"path", "store", "ifd"}
        assert errors["ifd"].fault is EvalFault.IMPORT_FROM_DERIVATION


async def test_files_read_their_tree_only(store: ScratchStore, tmp_path: Path) -> None:
    outside = project(tmp_path / "outside", {"secret.nix": '"secret"'})
    made = project(
        tmp_path / "tree",
        {
            "default.nix": f"""let {JOB} in {{
              inside = job (import ./name.nix);
              outside = job (import {outside.path}/secret.nix);
              up = job (import ../outside/secret.nix);
              link = job (import ./link.nix);
              search = job (import <secret>);
              fetched = job (builtins.readFile (builtins.fetchurl "http://127.0.0.1:9/x"));
              environment = job "${{builtins.getEnv "HOME"}}x";
            }}""",
            "name.nix": '"inside"',
        },
    )
    (made.path / "link.nix").symlink_to(outside.path / "secret.nix")
    environment = store.environment | {"NIX_PATH": f"secret={outside.path}/secret.nix"}

    records = await collect(OwnEvaluator(environment), request(made.file()))

    assert {path: record.name for path, record in good(records).items()} == {
        ("inside",): "inside",
        ("environment",): "x",
    }
    assert bad(records).keys() == {("outside",), ("up",), ("link",), ("search",), ("fetched",)}


async def test_an_unknown_attribute_is_answered_with_those_that_exist(evaluator: OwnEvaluator, tmp_path: Path) -> None:
    made = project(tmp_path, {"flake.nix": FLAKE})
    with pytest.raises(EvaluationFailedError, match=r"no attribute chekcs in .*Did you mean checks"):
        await collect(evaluator, request(made.flake("chekcs")))
    with pytest.raises(
        EvaluationFailedError, match=r"checks\.x86_64-linux\.sett.*Did you mean checks\.x86_64-linux\.set"
    ):
        await collect(evaluator, request(made.flake("checks", "x86_64-linux", "sett")))
    with pytest.raises(EvaluationFailedError, match="There are: zebra"):
        await collect(evaluator, request(expression("{ zebra = 1; }", tmp_path, ("q",))))


async def test_what_cannot_be_loaded_fails_as_a_whole_in_a_sentence(evaluator: OwnEvaluator, tmp_path: Path) -> None:
    empty = project(tmp_path / "empty", {"x": ""})
    with pytest.raises(EvaluationFailedError, match=r"There is no flake\.nix in"):
        await collect(evaluator, request(empty.flake("checks")))
    with pytest.raises(EvaluationFailedError, match=r"There is no file .*release\.nix"):
        await collect(evaluator, request(empty.file("release.nix")))
    broken = project(
        tmp_path / "broken", {"default.nix": "{\n  a = ;\n}", "flake.nix": '{ outputs = _: throw "out"; }'}
    )
    with pytest.raises(EvaluationFailedError, match=r"syntax error.*default\.nix:2") as failure:
        await collect(evaluator, request(broken.file()))
    assert "syntax error" in failure.value.detail
    with pytest.raises(EvaluationFailedError, match="cannot be evaluated: out"):
        await collect(evaluator, request(broken.flake("checks")))
    with pytest.raises(EvaluationFailedError, match="syntax error"):
        await collect(evaluator, request(expression("{ a = ; }", tmp_path)))


async def test_a_lock_file_that_is_missing_or_out_of_date_is_said_and_not_written(
    evaluator: OwnEvaluator, tmp_path: Path
) -> None:
    other = project(tmp_path / "other", {"flake.nix": "{ outputs = _: { }; }"}).flake().reference.split("?")[0]
    made = project(
        tmp_path / "own", {"flake.nix": f'{{ inputs.o.url = "{other}"; outputs = _: {{ checks = {{ }}; }}; }}'}
    )
    target = made.flake("checks")

    with pytest.raises(EvaluationFailedError, match=r"lock file of .* is missing or out of date.*nix flake lock"):
        await collect(evaluator, request(target))

    assert not (made.path / "flake.lock").exists()


async def test_a_target_that_throws_when_opened_is_one_error_beside_other_targets(
    evaluator: OwnEvaluator, tmp_path: Path
) -> None:
    flake = f'{{ outputs = _: let {JOB} in {{ checks = throw "shut"; packages.x86_64-linux.p = job "p"; }}; }}'
    made = project(tmp_path, {"flake.nix": flake})

    records = await collect(evaluator, request(made.flake("checks"), made.flake("packages")))

    assert bad(records).keys() == {("checks",)}
    assert len(good(records)) == 1


async def test_targets_of_all_kinds_go_together(evaluator: OwnEvaluator, tmp_path: Path) -> None:
    flake = f'{{ outputs = _: let {JOB} in {{ checks.x86_64-linux.f = job "f"; }}; }}'
    made = project(tmp_path, {"flake.nix": flake, "default.nix": f'let {JOB} in {{ d = job "d"; }}'})

    records = await collect(
        evaluator,
        request(
            made.flake("checks"), made.file(), made.file(attr=("d",)), expression(f'let {JOB} in job "e"', tmp_path)
        ),
    )

    assert [record.name for record in of(records, Attribute)].count("d") == 2
    assert {record.name for record in of(records, Attribute)} == {"d", "e", "f"}
    assert ended(records).evaluator == await evaluator.identity()


async def test_the_whole_may_take_only_so_long(evaluator: OwnEvaluator, tmp_path: Path) -> None:
    text = "let l = builtins.genList (x: x) 100000; in builtins.foldl' (a: i: builtins.foldl' (b: j: b + j) a l) 0 l"
    limits = EvaluationLimits(workers=1, time_s=1)

    with pytest.raises(EvaluationFailedError, match=r"longer than 1 seconds.*evaluating slow"):
        await collect(evaluator, request(expression(f"{{ slow = {text}; }}", tmp_path), limits=limits))


async def test_show_trace_adds_the_frames_of_the_project_only(evaluator: OwnEvaluator, tmp_path: Path) -> None:
    made = project(tmp_path, {"default.nix": 'let f = x: throw "deep";\ng = x: f x;\nin { a = g 1; }'})
    settings = EvaluationSettings(show_trace=True)

    short = bad(await collect(evaluator, request(made.file())))["a",]
    long = bad(await collect(evaluator, request(made.file(), settings=settings)))["a",]

    assert short.message == "deep"
    assert long.message.startswith("deep\n\n")
    assert "default.nix:2:8" in long.message
    assert "walker" not in long.message
    assert "«string»" not in long.message


async def test_a_program_that_is_not_nix_is_refused_with_a_sentence(store: ScratchStore, tmp_path: Path) -> None:
    old = tmp_path / "nix"
    old.write_text("#!/bin/sh\necho 'nix (Nix) 2.3.16'\n")
    old.chmod(0o755)
    made = project(tmp_path, {"default.nix": "{ }"})

    with pytest.raises(EvaluationFailedError, match=r"2\.8 or newer is needed"):
        await collect(OwnEvaluator(store.environment, str(old)), request(made.file()))


def nar_hash(store: ScratchStore, path: Path) -> str:
    asked = ["nix", "flake", "metadata", "--json", f"path:{path}"]
    done = subprocess.run(asked, env=store.environment, check=True, capture_output=True)
    return str(json.loads(done.stdout)["locked"]["narHash"])


async def test_a_dirty_tree_needs_no_commit(evaluator: OwnEvaluator, store: ScratchStore, tmp_path: Path) -> None:
    made: Project = project(
        tmp_path, {"flake.nix": f'{{ outputs = _: let {JOB} in {{ checks.x86_64-linux.f = job "f"; }}; }}'}
    )
    target = FlakeTarget(reference=f"path:{made.path}?narHash={nar_hash(store, made.path)}", attr=("checks",))

    assert len(good(await collect(evaluator, request(target)))) == 1
