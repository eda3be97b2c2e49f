"""Lines of nix-eval-jobs as its versions write them; what of them is believed."""

import pytest

from nixmill.nix import eval_record
from nixmill.nix.eval_record import ErrorLine, EvalRecordError, JobLine, Meta

DRV = "/nix/store/4d93wjbyzwziijjac7izcwkakp5rsk00-hello-2.12.drv"
OUT = "/nix/store/4d93wjbyzwziijjac7izcwkakp5rsk00-hello-2.12"

V2_33 = (
    '{"attr":"x86_64-linux.\\"a.b\\"","attrPath":["x86_64-linux","a.b"],"drvPath":"' + DRV + '",'
    '"meta":{"available":true,"description":"A program","license":{"free":true},"maintainers":'
    '[{"email":"m@example.org","github":"m","name":"M"},{"github":"g"},"s"],"maxSilent":60,"timeout":3600},'
    '"name":"hello-2.12","outputs":{"doc":null,"out":"'
    + OUT
    + '"},"requiredSystemFeatures":["kvm"],"system":"x86_64-linux"}'
)
V2_9 = (
    '{"attr":"hello","attrPath":["hello"],"drvPath":"'
    + DRV
    + '","inputDrvs":{"'
    + DRV
    + '":["out"]},"name":"hello-2.12",'
    '"outputs":{"out":"/1rz4g4znpzjwh1xymhjpm42vipw92pr73vdgl6xs1hycac8kf2n9"},"system":"x86_64-linux"}'
)
ERROR = (
    '{"attr":"bad","attrPath":["bad"],"error":"error:\\n       … while evaluating the attribute \'bad\'\\n'
    "         at /src/a.nix:1:3:\\n            1| x\\n\\n       error: attribute 'b' missing\\n"
    '       at /src/b.nix:7:1:\\n            7| { }.b"}'
)
LATER = V2_9[:-1] + ',"stats":{"wallMs":3,"allocBytes":1},"warnings":["w"],"fatal":false,"cacheStatus":"cached"}'


def test_a_job_with_everything() -> None:
    assert eval_record.parse(V2_33) == JobLine(
        path=("x86_64-linux", "a.b"),
        name="hello-2.12",
        system="x86_64-linux",
        drv_path=DRV,  # type: ignore[arg-type]
        outputs={"doc": None, "out": OUT},  # type: ignore[dict-item]
        meta=Meta(description="A program", maintainers=("m@example.org", "g", "s"), timeout_s=3600, max_silent_s=60),
    )


@pytest.mark.parametrize("line", [V2_9, LATER])
def test_an_output_whose_path_is_not_known_yet(line: str) -> None:
    found = eval_record.parse(line.encode())
    assert isinstance(found, JobLine)
    assert found.outputs == {"out": None}


def test_an_error() -> None:
    found = eval_record.parse(ERROR)
    assert isinstance(found, ErrorLine)
    assert found.path == ("bad",)
    assert found.error.endswith("7| { }.b")


@pytest.mark.parametrize("meta", ["null", "[]", '"x"', '{"description":1,"maintainers":{"x":1},"timeout":true}'])
def test_meta_may_be_anything(meta: str) -> None:
    found = eval_record.parse(V2_9[:-1] + f',"meta":{meta}}}')
    assert isinstance(found, JobLine)
    assert found.meta == Meta()


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{}",
        "null",
        "\xff",
        '{"attrPath":["a"]}',
        '{"attrPath":"a","error":"x"}',
        '{"attrPath":["a"],"drvPath":"/x","name":"n"}',
        V2_9.replace('"outputs":{"out":"/1r', '"outputs":{"out":"/nix/store/1r'),
    ],
)
def test_anything_else_is_refused(line: str) -> None:
    with pytest.raises(EvalRecordError):
        eval_record.parse(line)
