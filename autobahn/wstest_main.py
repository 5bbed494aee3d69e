"""Run the Autobahn|Testsuite (Python 2.7) and tell the runner, line by line, what happens.

This is the one file here that runs inside the suite's own interpreter, so it is written in the language
that Python 2.7 and Python 3 share, with types in comments. It imports the suite as it is and changes three
things from outside: the fuzzing server listens on the loopback interface only, a case's report is written
when the case ends instead of after the last one (so that a killed run keeps what it has), and every step is
announced on standard output as one JSON object. What the suite itself prints goes to standard error.

    wstest_main.py list           the suite's version and case ids
    wstest_main.py run SPEC       run the specification; its "wsframe" object is described in shard.py

It ends when standard input does: no suite outlives a runner that was killed.
"""

import sys

# The script's directory must not be searched: the suite's interpreter has no business with our modules.
sys.path.pop(0)

import json
import os
import threading

MYPY = False
if MYPY:
    from typing import Any, Dict, TextIO

#: The fields of a case's result that a verdict is made from; the report files hold the rest.
RESULT_FIELDS = (
    "behavior",
    "behaviorClose",
    "closedByMe",
    "droppedByMe",
    "duration",
    "failedByMe",
    "localCloseCode",
    "remoteCloseCode",
    "remoteCloseReason",
    "result",
    "resultClose",
    "wasClean",
    "wasCloseHandshakeTimeout",
    "wasNotCleanReason",
    "wasOpenHandshakeTimeout",
    "wasServerConnectionDropTimeout",
)


class Announcer(object):
    """Writes events for the runner on what was standard output when the process started."""

    def __init__(self):
        # type: () -> None
        self._out = os.fdopen(os.dup(1), "w")  # type: TextIO
        os.dup2(2, 1)

    def __call__(self, event, **fields):
        # type: (str, **Any) -> None
        fields["event"] = event
        self._out.write(json.dumps(fields, sort_keys=True) + "\n")
        self._out.flush()


def end_with_stdin():
    # type: () -> None
    """End the process when the runner closes our standard input, which it also does by dying."""

    def wait():
        # type: () -> None
        while os.read(0, 4096):
            pass
        os._exit(3)

    thread = threading.Thread(target=wait)
    thread.daemon = True
    thread.start()


def list_cases(announce):
    # type: (Announcer) -> None
    """Announce the suite's version and all its case ids, in the suite's order."""
    import autobahntestsuite
    from autobahntestsuite import fuzzing

    names = fuzzing.CaseSet(fuzzing.CaseSetname, fuzzing.CaseBasename, fuzzing.Cases, {}, {})
    ids = [names.caseClasstoId(case) for case in fuzzing.Cases]
    announce("suite", version=autobahntestsuite.version, cases=ids)


def watch_results(fuzzing, announce, agent):
    # type: (Any, Announcer, str) -> None
    """Have each case's report written, and its result announced, as soon as the case has ended."""
    remember = fuzzing.FuzzingFactory.logCase

    def log_case(self, result):
        # type: (Any, Dict[str, Any]) -> None
        result["agent"] = agent  # a peer may call itself what it likes: files are named after this
        remember(self, result)
        self.createAgentCaseReportJSON(agent, result["id"], self.outdir)
        self.createAgentCaseReportHTML(agent, result["id"], self.outdir)
        fields = dict((name, result[name]) for name in RESULT_FIELDS)
        fields["received"] = len(result["received"])
        fields["reportfile"] = self.makeAgentCaseReportFilename(agent, result["id"], "json")
        announce("done", case=result["id"], **fields)
        # A case's wire log may be large, and nothing asks for it again.
        result["wirelog"] = []

    fuzzing.FuzzingFactory.logCase = log_case
    # The index is made by the runner, from all shards.
    fuzzing.FuzzingFactory.createReports = lambda self: None


def run_client(fuzzing, spec, announce):
    # type: (Any, Dict[str, Any], Announcer) -> None
    """Have the suite's fuzzing client connect to the server in `spec`."""
    advance = fuzzing.FuzzingClientFactory.nextCase
    give_up = fuzzing.FuzzingClientFactory.clientConnectionFailed

    def next_case(self):
        # type: (Any) -> bool
        more = advance(self)  # type: bool
        if more:
            announce("start", case=self.currentCaseId)
        return more

    def connection_failed(self, connector, reason):
        # type: (Any, Any, Any) -> None
        announce("refused", case=self.currentCaseId, reason=reason.getErrorMessage())
        give_up(self, connector, reason)

    fuzzing.FuzzingClientFactory.nextCase = next_case
    fuzzing.FuzzingClientFactory.clientConnectionFailed = connection_failed
    fuzzing.startClient(spec)


def run_server(fuzzing, spec, announce):
    # type: (Any, Dict[str, Any], Announcer) -> None
    """Have the suite's fuzzing server listen, on the interface and port that `spec` names."""
    ours = spec["wsframe"]
    connected = fuzzing.FuzzingServerProtocol.onConnect

    def listen(factory, context=None, backlog=50):
        # type: (Any, Any, int) -> Any
        from twisted.internet import reactor

        listener = reactor.listenTCP(ours["port"], factory, backlog, interface=ours["interface"])
        port = listener.getHost().port
        # The suite compares the port in the Host header with this one.
        factory.port = factory.externalPort = port
        announce("listening", port=port)
        return listener

    def on_connect(self, request):
        # type: (Any, Any) -> Any
        answer = connected(self, request)
        self.caseAgent = ours["agent"]
        if self.runCase:
            # Only a case may be masked wrongly: the client must still be able to ask for the number of cases.
            self.maskServerFrames = bool(ours["wrong_masking"])
            announce("start", case=self.factory.CaseSet.caseClasstoId(self.Case))
        return answer

    fuzzing.listenWS = listen
    fuzzing.FuzzingServerProtocol.onConnect = on_connect
    fuzzing.startServer(spec, 0)  # 0: without the suite's web page, which every interface would show


def run(path, announce):
    # type: (str, Announcer) -> None
    """Run the specification in the file `path` until its cases are done (client) or for ever (server)."""
    from autobahntestsuite import choosereactor  # installs the reactor, so it must come first

    from autobahntestsuite import fuzzing
    from twisted.internet import reactor
    from twisted.python import log

    def show_error(event):
        # type: (Dict[str, Any]) -> None
        if event.get("isError"):
            sys.stderr.write((log.textFromEventDict(event) or "") + "\n")

    log.addObserver(show_error)
    with open(path) as file:
        spec = json.load(file)
    watch_results(fuzzing, announce, spec["wsframe"]["agent"])
    if spec["wsframe"]["direction"] == "server":
        run_client(fuzzing, spec, announce)
    else:
        run_server(fuzzing, spec, announce)
    reactor.run()
    announce("finished")


if __name__ == "__main__":
    announcer = Announcer()
    end_with_stdin()
    if sys.argv[1:] == ["list"]:
        list_cases(announcer)
    else:
        run(sys.argv[2], announcer)
