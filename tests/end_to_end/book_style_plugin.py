"""A plugin as the Orthanc Book shows them: tags what comes, sends on what is complete, answers, keeps some out.

Its configuration: {"Book": {"Forward": NAME_OF_A_MODALITY, "Key": WHAT_REQUESTS_HAVE_TO_SHOW}}.
"""

import json
import pprint
import threading
from urllib.parse import unquote

import orthanc

ROLE = 1024
COMPLETE = 1025
CONFIGURATION = json.loads(orthanc.GetConfiguration())["Book"]
TOTAL = {"count": 0, "bytes": 0}
LOCK = threading.Lock()


def OnStoredInstance(dicom, instanceId):
    """Tag an instance by its series' description."""
    tags = json.loads(dicom.GetInstanceSimplifiedJson())
    description = tags.get("SeriesDescription", "").upper()
    role = "FLAIR" if "FLAIR" in description else "T1CE" if "POST" in description else "OTHER"
    orthanc.RestApiPut("/instances/%s/metadata/%d" % (instanceId, ROLE), role)
    with LOCK:
        TOTAL["count"] += 1
        TOTAL["bytes"] += dicom.GetInstanceSize()
        orthanc.SetMetricsValue("book_instances", TOTAL["count"], orthanc.MetricsType.DEFAULT)
    orthanc.LogInfo("Tagged %s from %s" % (instanceId, dicom.GetInstanceRemoteAet()))


def OnChange(changeType, level, resourceId):
    """Send a study on when it is complete, and remember that it was."""
    if changeType == orthanc.ChangeType.ORTHANC_STARTED:
        orthanc.SetGlobalProperty(1024, str(int(orthanc.GetGlobalProperty(1024, "0")) + 1))

    elif changeType == orthanc.ChangeType.STABLE_STUDY:
        study = json.loads(orthanc.RestApiGet("/studies/" + resourceId))
        orthanc.RestApiPost("/modalities/%s/store" % CONFIGURATION["Forward"], resourceId)
        orthanc.RestApiPut("/studies/%s/metadata/%d" % (resourceId, COMPLETE), str(len(study["Series"])))

    elif changeType == orthanc.ChangeType.DELETED:
        orthanc.LogWarning("Deleted: " + resourceId)


def Summary(output, uri, **request):
    """GET /book/studies/{id}: the roles of a study's instances."""
    if request["method"] != "GET":
        output.SendMethodNotAllowed("GET")
        return

    roles = {}
    for instance in json.loads(orthanc.RestApiGet("/studies/%s/instances" % request["groups"][0])):
        role = orthanc.RestApiGet("/instances/%s/metadata/%d" % (instance["ID"], ROLE)).decode("ascii")
        roles[role] = roles.get(role, 0) + 1
    output.AnswerBuffer(json.dumps(roles, sort_keys=True), "application/json")


def Find(output, uri, **request):
    """GET /book/find?description=...: studies that have such a series, but for those of patients who are kept out."""
    query = {
        "Level": "Series",
        "Expand": True,
        "Query": {"SeriesDescription": unquote(request["get"].get("description", "")), "PatientID": "*"},
    }
    found = json.loads(orthanc.RestApiPost("/tools/find", json.dumps(query)))
    studies = set()
    for series in found:
        study = json.loads(orthanc.RestApiGet("/studies/" + series["ParentStudy"]))
        if not study["PatientMainDicomTags"]["PatientID"].endswith("-3"):
            studies.add(study["MainDicomTags"]["StudyInstanceUID"])
    output.AnswerBuffer(json.dumps(sorted(studies)), "application/json")


def State(output, uri, **request):
    """GET /book/state: what was counted, and what stands of each study."""
    complete = {}
    for study in json.loads(orthanc.RestApiGet("/studies")):
        metadata = json.loads(orthanc.RestApiGet("/studies/%s/metadata?expand" % study))
        complete[study] = metadata.get(str(COMPLETE))
    with LOCK:
        state = dict(TOTAL, starts=orthanc.GetGlobalProperty(1024, ""), complete=complete)
    output.AnswerBuffer(json.dumps(state, sort_keys=True), "application/json")


def Delete(output, uri, **request):
    """POST /book/delete with a study's UID."""
    orthanc.RestApiDelete("/studies/" + orthanc.LookupStudy(request["body"].decode("ascii")))
    output.AnswerBuffer("deleted", "text/plain")


def Filter(uri, **request):
    """Keep out who does not show the key."""
    if request["headers"].get("x-book-key") != CONFIGURATION["Key"]:
        orthanc.LogWarning("AddResult out: " + pprint.pformat(uri))
        return False
    return True


orthanc.RegisterOnStoredInstanceCallback(OnStoredInstance)
orthanc.RegisterOnChangeCallback(OnChange)
orthanc.RegisterRestCallback("/book/studies/(.*)", Summary)
orthanc.RegisterRestCallback("/book/find", Find)
orthanc.RegisterRestCallback("/book/state", State)
orthanc.RegisterRestCallback("/book/delete", Delete)
orthanc.RegisterIncomingHttpRequestFilter(Filter)
