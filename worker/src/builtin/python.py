# Runs a script for core.python. The worker passes this text to `python3 -c`, and talks to it over a
# socket, which is its standard input: first come script and input, and what goes back is the answer.
import json, linecache, os, socket, sys, traceback

channel = socket.socket(fileno=os.dup(0))
nothing = os.open(os.devnull, os.O_RDONLY)
os.dup2(nothing, 0)
os.close(nothing)


def answer(reply):
    text = json.dumps(reply, allow_nan=False)
    sys.stdout.flush()
    channel.sendall(text.encode())
    channel.close()


def run():
    with channel.makefile("rb") as job:
        job = json.loads(job.read())
    script, name = job["script"], "<script>"
    # So that a traceback shows the lines of the script.
    linecache.cache[name] = (len(script), None, script.splitlines(True), name)
    scope = {"__name__": "__main__", "input": job["input"]}
    try:
        exec(compile(script, name, "exec"), scope)
    except SystemExit as end:
        if end.code not in (None, 0):
            raise
    except BaseException as error:
        # Its first place is in this file.
        lines = traceback.format_exception(type(error), error, error.__traceback__.tb_next)
        sys.stderr.write("".join(lines))
        places = [place.lineno for place in traceback.extract_tb(error.__traceback__) if place.filename == name]
        is_syntax = isinstance(error, SyntaxError) and not places
        answer({"error": {
            "type": type(error).__name__,
            "message": traceback.format_exception_only(type(error), error)[-1].strip(),
            "line": places[-1] if places else getattr(error, "lineno", None),
            "traceback": "".join(lines),
            "is_syntax": is_syntax,
        }})
        sys.exit(1)
    try:
        answer({"result": scope.get("result")})
    except (TypeError, ValueError, RecursionError) as error:
        answer({"unusable": str(error)})


run()
