"""Runs the command as its user meets it."""

from indiret.cli import main


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def refused(capsys, *arguments):
    """The sentence on standard error of a call that must end with status 2."""
    status, out, err = run(capsys, *arguments)
    assert status == 2
    assert out == ""
    assert err.startswith("indiret: ") and err.count("\n") == 1, err
    assert "Traceback" not in err
    return err
