"""A script that calls Orthanc's API inside Orthanc or the node and records the result of each call.

test_orthanc_contract.py compares the results of both hosts. The script's configuration names the folder of the DICOM
files to store and the folder for the results.
"""

import json
import os
import threading

import orthanc

TRIAL = json.loads(orthanc.GetConfiguration())["Trial"]
ANSWERS = {}
CHANGES = []
STORED = []
LOCK = threading.Condition()


def call(name, function, *arguments):
    """Record what a call returns or raises."""
    try:
        answer = function(*arguments)
    except orthanc.OrthancException as exc:
        answer = {"raised": list(exc.args)}
    except (TypeError, ValueError, RuntimeError) as exc:
        answer = {"wrong": type(exc).__name__}
    if isinstance(answer, (bytes, str)):
        try:
            answer = json.loads(answer)
        except ValueError:
            answer = answer if isinstance(answer, str) else {"bytes": len(answer), "sha1": orthanc.ComputeSha1(answer)}
    times = sum(each == name or each.startswith(name + " (") for each in ANSWERS)
    ANSWERS["%s (%d)" % (name, times + 1) if times else name] = answer
    return answer


def get(path):
    return call("GET " + path, orthanc.RestApiGet, path)


def post(path, body):
    return call("POST %s %s" % (path, body[:150]), orthanc.RestApiPost, path, body)


def put(path, body):
    return call("PUT %s %s" % (path, body), orthanc.RestApiPut, path, body)


def delete(path):
    return call("DELETE " + path, orthanc.RestApiDelete, path)


def find(**query):
    return post("/tools/find", json.dumps(query))


def describe(instance):
    """Return the results of all methods of an instance."""
    answers = {}
    for name in sorted(dir(instance)):
        if name in ("GetInstanceData", "SerializeDicomInstance"):
            answers[name] = orthanc.ComputeSha1(getattr(instance, name)())
        elif name == "GetInstanceAdvancedJson":
            for form in (
                orthanc.DicomToJsonFormat.FULL,
                orthanc.DicomToJsonFormat.SHORT,
                orthanc.DicomToJsonFormat.HUMAN,
            ):
                answers[name + str(form)] = json.loads(instance.GetInstanceAdvancedJson(form, 0, 0))
        elif name in ("GetInstanceMetadata", "HasInstanceMetadata"):
            answers[name] = getattr(instance, name)("ReceptionDate")
        elif name.startswith("GetInstance") and name.endswith("Json"):
            answers[name] = json.loads(getattr(instance, name)())
        elif not name.startswith("_") and name not in ("GetInstanceDecodedFrame", "GetInstanceRawFrame"):
            answers[name] = getattr(instance, name)()
    return answers


def on_stored(dicom, instance_id):
    STORED.append([instance_id, describe(dicom)])
    raise ValueError("a callback that fails")


def on_change(change_type, level, resource):
    with LOCK:
        CHANGES.append([int(change_type), int(level), resource])
        LOCK.notify_all()
    if change_type == orthanc.ChangeType.ORTHANC_STARTED:
        threading.Thread(target=make_all_calls).start()
    if change_type == orthanc.ChangeType.NEW_SERIES:
        raise KeyError("a callback that fails")


def make_all_calls():
    try:
        deleted = walk()
        with LOCK:  # the host calls back in a thread of its own
            LOCK.wait_for(lambda: [orthanc.ChangeType.DELETED, orthanc.ResourceType.PATIENT, deleted] in CHANGES, 20)
        write("answers.json")
    except BaseException as exc:
        ANSWERS["failed"] = repr(exc)
        write("answers.json")
        raise


def write(name):
    path = os.path.join(TRIAL["Answers"], name)
    with LOCK:
        content = json.dumps({"answers": ANSWERS, "changes": CHANGES, "stored": STORED})
    with open(path + ".part", "w") as file:
        file.write(content)
    os.rename(path + ".part", path)


def walk():
    """Make all calls, in order."""
    ANSWERS["names"] = names()
    get("/system")
    stored = []
    for name in sorted(os.listdir(TRIAL["Files"])):
        with open(os.path.join(TRIAL["Files"], name), "rb") as file:
            content = file.read()
        stored.append(call("store " + name, orthanc.RestApiPost, "/instances", content))
    call("store again", orthanc.RestApiPost, "/instances", content)
    call("store no DICOM", orthanc.RestApiPost, "/instances", b"no DICOM")
    instance = stored[0]["ID"]
    call("GetDicomForInstance", orthanc.GetDicomForInstance, instance)
    call("GetDicomForInstance of none", orthanc.GetDicomForInstance, "nope")
    listings(stored)
    resources(instance, stored[0]["ParentSeries"], stored[0]["ParentStudy"], stored[0]["ParentPatient"])
    finds()
    metadata(instance, stored[0]["ParentStudy"])
    modalities(instance)
    other_functions()
    return create_and_delete(stored[-1])


def names():
    """Return the module's names: None for a function, the members for a class."""
    found = {}
    for name in dir(orthanc):
        what = getattr(orthanc, name)
        if isinstance(what, type) and not name.startswith("_"):
            members = {member: getattr(what, member) for member in dir(what) if not member.startswith("_")}
            found[name] = {key: value if isinstance(value, int) else None for key, value in members.items()}
        elif callable(what) and not name.startswith("_"):
            found[name] = None
    return found


def listings(stored):
    for level in ("patients", "studies", "series", "instances"):
        get("/" + level)
        get("/%s?expand" % level)
        get("/%s?since=0&limit=1" % level)
        get("/%s/%s" % (level, "0" * 8))
    get("/patients?since=1&limit=5")
    get("/patients?limit=5")
    get("/changes")
    get("/changes?since=2&limit=3")
    get("/changes?last")
    get("/changes?since=100000")
    get("/statistics")


def resources(instance, series, study, patient):
    for level, identifier in (("instances", instance), ("series", series), ("studies", study), ("patients", patient)):
        path = "/%s/%s" % (level, identifier)
        get(path)
        get(path + "?full")
        get(path + "?short")
        for child in ("patient", "study", "series", "instances", "studies"):
            get("%s/%s" % (path, child))
        for more in ("statistics", "metadata", "metadata?expand", "shared-tags", "instances-tags", "nonsense"):
            get("%s/%s" % (path, more))
    path = "/instances/%s/" % instance
    for more in (
        *("tags", "tags?simplify", "tags?short", "simplified-tags", "header", "header?simplify", "file", "content"),
        *("content/0010-0010", "content/PatientName", "content/0008-1110", "content/0008-1110/0/0020-000d"),
        *("content/0099-0099", "frames", "attachments", "attachments/dicom/size", "attachments/dicom/md5"),
        *("attachments/dicom/data", "metadata/RemoteAET", "metadata/Origin", "metadata/TransferSyntax"),
        *("metadata/SopClassUid", "metadata/IndexInSeries", "metadata/nonsense"),
    ):
        get(path + more)


def finds():
    for level in ("Patient", "Study", "Series", "Instance", "Nonsense"):
        find(Level=level, Query={})
    find(Level="Study", Query={"PatientID": "TRIAL-*"})
    find(Level="Study", Query={"PatientID": "trial-1"})
    find(Level="Study", Query={"PatientID": "trial-1"}, CaseSensitive=True)
    find(Level="Study", Query={"PatientName": "*one*"}, Expand=True)
    find(Level="Study", Query={"PatientName": "t?ial*"}, Expand=True)
    find(Level="Study", Query={"StudyDate": "20200101-20200630"})
    find(Level="Study", Query={"StudyDate": "20200101-"})
    find(Level="Study", Query={"StudyDate": "-20191231"})
    find(Level="Study", Query={"ModalitiesInStudy": "MR"})
    find(Level="Study", Query={"ModalitiesInStudy": "CT\\MR"})
    find(Level="Study", Query={"ModalitiesInStudy": "CT"})
    find(Level="Study", Query={"StudyDescription": ""})
    find(Level="Series", Query={"Modality": "MR\\CT", "SeriesDescription": "*FLAIR*"})
    find(Level="Series", Query={"0008-103e": "T1*"}, Expand=True)
    find(Level="Series", Query={"SeriesDescription": "T1 post"})
    find(Level="Series", Query={"SeriesDescription": "t1 POST"})
    find(Level="Study", Query={"StudyDescription": "Study  of 1"})
    find(Level="Study", Query={"PatientName": "Trial^Zwö"})
    find(Level="Study", Query={"PatientName": "TRIAL^ZWÖ"})
    find(Level="Study", Query={"PatientName": "trial^zwo"})
    find(Level="Study", Query={"AccessionNumber": "acc-1\\ACC-2"})
    find(Level="Instance", Query={"ImageComments": "a*"})
    find(Level="Series", Query={"Manufacturer": "büro"})
    find(Level="Instance", Query={"InstanceNumber": "2"})
    find(Level="Instance", Query={"EchoTime": "90"})
    find(Level="Instance", Query={"SOPInstanceUID": "nope"})
    find(Level="Series", Query={"PatientID": "TRIAL-2"}, Expand=True, Full=True)
    find(Level="Series", Query={"PatientID": "TRIAL-2"}, Expand=True, Short=True)
    find(Level="Instance", Query={"PatientID": "TRIAL-1"}, Limit=2, Since=1)
    find(Level="Study", Query={"Nonsense": "1"})
    find(Level="Study", Query={"PatientID": 7})
    find(Query={})
    find(Level="Study")
    post("/tools/find", "no JSON")
    for uid in ("TRIAL-1", "1.2.826.0.1.3680043.8.498.1.1", "1.2.826.0.1.3680043.8.498.1.1.1.1", "nope"):
        post("/tools/lookup", uid)
    get("/tools/find")


def metadata(instance, study):
    for path in ("/instances/%s/metadata/" % instance, "/studies/%s/metadata/" % study):
        put(path + "1024", "hello")
        get(path + "1024")
        put(path + "TrialMark", "named")
        get(path + "TrialMark")
        put(path + "1027", "named as declared")
        get(path + "OtherMark")
        put(path + "NoMark", "of no such name")
        get(path + "1025")
        get(path[:-1])
        get(path[:-1] + "?expand")
        get(path + "1024?expand")
        put(path + "LastUpdate", "hello")
        put(path + "7", "hello")
        delete(path + "1024")
        delete(path + "1024")
        get(path + "1024")
        delete(path + "LastUpdate")


def modalities(instance):
    get("/modalities")
    get("/modalities?expand")
    get("/modalities/nowhere")
    get("/modalities/peer")
    get("/modalities/peer/configuration")
    get("/modalities/none/configuration")
    put("/modalities/more", '["MORE", "127.0.0.1", 1]')
    get("/modalities/more/configuration")
    put("/modalities/bad", '{"AET": "BAD"}')
    get("/modalities")
    post("/modalities/more/echo", "{}")
    post("/modalities/peer/echo", "{}")
    post("/modalities/peer/store", instance)
    post("/modalities/peer/store", json.dumps([instance, instance]))
    post("/modalities/peer/store", json.dumps({"Resources": [instance], "Synchronous": True}))
    post("/modalities/peer/store", "nope")
    post("/modalities/none/store", instance)
    delete("/modalities/more")
    delete("/modalities/more")
    get("/modalities")


def other_functions():
    for name, arguments in (
        ("ComputeMd5", (b"abc",)),
        ("ComputeSha1", (b"abc",)),
        ("LookupPatient", ("TRIAL-1",)),
        ("LookupPatient", ("nope",)),
        ("LookupStudy", ("1.2.826.0.1.3680043.8.498.1.1",)),
        ("LookupSeries", ("1.2.826.0.1.3680043.8.498.1.1.1",)),
        ("LookupInstance", ("1.2.826.0.1.3680043.8.498.1.1.1.1",)),
        ("LookupStudyWithAccessionNumber", ("ACC-1",)),
        ("SetGlobalProperty", (1024, "kept")),
        ("GetGlobalProperty", (1024, "default")),
        ("GetGlobalProperty", (1025, "default")),
        ("SetGlobalProperty", (3, "kept")),
        ("GetErrorDescription", (17,)),
        ("CheckVersion", ()),
        ("CheckVersionAdvanced", (1, 5, 0)),
        ("SetMetricsValue", ("trial_metric", 2.5, orthanc.MetricsType.DEFAULT)),
        ("LogInfo", ("a line",)),
        ("LogWarning", ("a line",)),
        ("LogError", ("a line",)),
        ("LookupDictionary", ("PatientID",)),
        ("LookupDictionary", ("ImageType",)),
        ("LookupDictionary", ("PixelSpacing",)),
        ("LookupDictionary", ("0008,0060",)),
        ("LookupDictionary", ("Nonsense",)),
        ("GetErrorDescription", (4711,)),
        ("SetMetricsValue", ("not a name", 1.0, orthanc.MetricsType.DEFAULT)),
        ("SetMetricsValue", ("other_metric", 1, 7)),
        ("GetGlobalProperty", (3, "default")),
        ("GetCommandLineArgument", (5,)),
        ("GetExpectedDatabaseVersion", ()),
        ("ReadFile", ("/nonsense/nowhere",)),
        ("RegisterOnChangeCallback", (on_change,)),
        ("RegisterOnStoredInstanceCallback", (on_stored,)),
        ("RegisterIncomingHttpRequestFilter", (filter_request,)),
        ("GetTagName", (0x10, 0x10, "")),
        ("GetCommandLineArgumentsCount", ()),
        ("RestApiGet", (1,)),
        ("RestApiGet", ()),
        ("LogInfo", (b"bytes",)),
        ("RestApiGetAfterPlugins", ("/trial/hello",)),
        ("RestApiGet", ("/trial/hello",)),
        ("RestApiPostAfterPlugins", ("/trial/echo/x?a=1", "body")),
        ("RestApiPutAfterPlugins", ("/trial/echo/x", "body")),
        ("RestApiDeleteAfterPlugins", ("/trial/echo/x",)),
        ("RestApiGetAfterPlugins", ("/trial/fails",)),
        ("RestApiGetAfterPlugins", ("/trial/status",)),
        ("RestApiGetAfterPlugins", ("/trial/only-post",)),
        ("RestApiGetAfterPlugins", ("/patients",)),
    ):
        shown = tuple("a function" if callable(each) else each for each in arguments)
        call("%s%r" % (name, shown), getattr(orthanc, name), *arguments)
    ANSWERS["uuid"] = len(orthanc.GenerateUuid())
    ANSWERS["metrics"] = "trial_metric 2.5" in orthanc.RestApiGet("/tools/metrics-prometheus").decode()
    for level in ("patient", "study", "series", "instance"):
        ANSWERS["uid " + level] = len(orthanc.RestApiGet("/tools/generate-uid?level=" + level)) > 10
    for method in (post, put):
        method("/nonsense", "x")
        method("/system", "x")
    delete("/system")
    get("/nonsense")
    get("")
    get("nonsense")


def create_and_delete(last):
    tags = {"PatientID": "MADE", "PatientName": "Made^Up", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4", "Modality": "MR"}
    made = orthanc.CreateDicom(json.dumps(tags), None, orthanc.CreateDicomFlags.GENERATE_IDENTIFIERS)
    ANSWERS["CreateDicom"] = describe(orthanc.CreateDicomInstance(made))
    call("CreateDicom of nonsense", orthanc.CreateDicom, "{", None, orthanc.CreateDicomFlags.NONE)
    call("CreateDicom of an unknown tag", orthanc.CreateDicom, '{"Nonsense": "1"}', None, orthanc.CreateDicomFlags.NONE)
    kept = call("store made", orthanc.RestApiPost, "/instances", made)
    get("/patients/%s" % kept["ParentPatient"])
    delete("/instances/%s" % last["ID"])
    delete("/instances/%s" % last["ID"])
    get("/instances/%s" % last["ID"])
    get("/patients/%s" % last["ParentPatient"])
    delete("/patients/%s" % kept["ParentPatient"])
    get("/patients")
    get("/statistics")
    return kept["ParentPatient"]


def hello(output, uri, **request):
    output.AnswerBuffer("hello", "text/plain")


def echo(output, uri, **request):
    shown = {key: value for key, value in request.items() if key != "headers"}
    shown["body"] = shown["body"].decode() if "body" in shown else None
    shown["uri"] = uri
    shown["mark"] = request.get("headers", {}).get("x-mark")
    output.SetHttpHeader("X-Trial", "yes")
    output.SetCookie("flavour", "sweet")
    output.AnswerBuffer(json.dumps(shown), "application/json")


def fails(output, uri, **request):
    raise RuntimeError("a callback that fails")


def status(output, uri, **request):
    output.SendHttpStatus(418, "short and stout", 15)


def status_code(output, uri, **request):
    output.SendHttpStatusCode(507)


def redirect(output, uri, **request):
    output.Redirect("/trial/hello")


def only_post(output, uri, **request):
    if request["method"] != "POST":
        output.SendMethodNotAllowed("POST")
    else:
        output.AnswerBuffer(request["body"], "application/octet-stream")


def unauthorized(output, uri, **request):
    output.SendUnauthorized("trial")


def raises(output, uri, **request):
    raise orthanc.OrthancException(orthanc.ErrorCode.UNKNOWN_RESOURCE, "not here")


def answers_from_rest(output, uri, **request):
    output.AnswerBuffer(orthanc.RestApiGet("/nonsense"), "text/plain")


def filter_request(uri, **request):
    if uri.endswith("/raise"):
        raise RuntimeError("a filter that fails")
    return "forbidden" not in uri


orthanc.RegisterOnChangeCallback(on_change)
orthanc.RegisterOnStoredInstanceCallback(on_stored)
orthanc.RegisterIncomingHttpRequestFilter(filter_request)
orthanc.RegisterRestCallback("/trial/hello", hello)
orthanc.RegisterRestCallback("/trial/(echo)/(.*)", echo)
orthanc.RegisterRestCallback("/trial/fails", fails)
orthanc.RegisterRestCallback("/trial/status", status)
orthanc.RegisterRestCallback("/trial/status-code", status_code)
orthanc.RegisterRestCallback("/trial/redirect", redirect)
orthanc.RegisterRestCallback("/trial/only-post", only_post)
orthanc.RegisterRestCallback("/trial/unauthorized", unauthorized)
orthanc.RegisterRestCallback("/trial/raises", raises)
orthanc.RegisterRestCallback("/trial/not-there", answers_from_rest)
orthanc.RegisterRestCallback("/trial/forbidden", hello)
