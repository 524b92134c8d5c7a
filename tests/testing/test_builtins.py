"""Every built-in passes the suite of its kind."""
import time
import pytest
from bab.core import registry
from bab.core.components import build_encoder
from bab.testing import corpora, encoders
from bab.testing.suite import run_checks

def failures(checks, subject):
    t=time.time()
    out = list(run_checks(checks, subject))
    return [o for o in out if o.verdict == "failed"]

@pytest.mark.parametrize("name", registry.names("datasets"))
def test_corpora(name):
    cls = registry.load("datasets", name)
    assert not failures(corpora.CHECKS, cls(cls.sample.resolve(), cls.Options()))

@pytest.mark.parametrize("name", ["hubert:random-tiny","fbank","wav2vec2:random-tiny","wavlm:random-tiny","ast:random-tiny","clap:random-tiny","s3prl:fbank"])
def test_encoders(name):
    n,_,w=name.partition(":")
    cls = registry.load("encoders", n)
    assert not failures(encoders.ALL, lambda: cls.load(w, cls.Options(), offline=True))

from bab.testing import heads, objectives
@pytest.mark.parametrize("name", registry.names("heads"))
def test_heads(name):
    cls = registry.load("heads", name)
    assert not failures(heads.CHECKS, heads.HeadCase(cls, cls.Options()))

@pytest.mark.parametrize("name", registry.names("objectives"))
def test_objectives(name):
    cls = registry.load("objectives", name)
    assert not failures(objectives.CHECKS, objectives.ObjectiveCase(cls, cls.Options(), objectives.level_of(cls, cls.Options())))

from bab.testing import tasks
@pytest.mark.parametrize("name", registry.names("tasks"))
def test_tasks(name):
    cls = registry.load("tasks", name)
    assert not failures(tasks.CHECKS, tasks.TaskCase.of(cls(cls.Options())))

from bab.testing import observers, formats, models
@pytest.mark.parametrize("name", registry.names("observers"))
def test_observers(name, tmp_path):
    assert not failures(observers.CHECKS, observers.ObserverCase(registry.load("observers", name), tmp_path))
@pytest.mark.parametrize("name", registry.names("formats"))
def test_formats(name, tmp_path):
    cls = registry.load("formats", name)
    checks = [c for c in formats.CHECKS if cls.writes or c is not formats.check_samples]
    assert not failures(checks, formats.FormatCase(cls, tmp_path))
@pytest.mark.parametrize("name", registry.names("models"))
def test_models(name, tmp_path):
    assert not failures(models.CHECKS, models.ModelCase(name, "", tmp_path))
