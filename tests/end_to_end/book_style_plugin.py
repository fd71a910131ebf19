"""A script in the style of the Orthanc Book: it labels new instances, forwards complete studies and serves routes.

Its configuration: {"Book": {"Forward": NAME_OF_A_MODALITY, "Key": REQUIRED_VALUE_OF_X_BOOK_KEY}}.
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
    """Label an instance by its series' description."""
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
    """Forward a stable study, and record it."""
    if changeType == orthanc.ChangeType.ORTHANC_STARTED:
        orthanc.SetGlobalProperty(1024, str(int(orthanc.GetGlobalProperty(1024, "0")) + 1))

    elif changeType == orthanc.ChangeType.STABLE_STUDY:
        study = json.loads(orthanc.RestApiGet("/studies/" + resourceId))
        orthanc.RestApiPost("/modalities/%s/store" % CONFIGURATION["Forward"], resourceId)
        orthanc.RestApiPut("/studies/%s/metadata/%d" % (resourceId, COMPLETE), str(len(study["Series"])))

    elif changeType == orthanc.ChangeType.DELETED:
        orthanc.LogWarning("Deleted: " + resourceId)


def Summary(output, uri, **request):
    """GET /book/studies/{id}: count the roles of a study's instances."""
    if request["method"] != "GET":
        output.SendMethodNotAllowed("GET")
        return

    roles = {}
    for instance in json.loads(orthanc.RestApiGet("/studies/%s/instances" % request["groups"][0])):
        role = orthanc.RestApiGet("/instances/%s/metadata/%d" % (instance["ID"], ROLE)).decode("ascii")
        roles[role] = roles.get(role, 0) + 1
    output.AnswerBuffer(json.dumps(roles, sort_keys=True), "application/json")


def Find(output, uri, **request):
    """GET /book/find?description=...: find studies with such a series, except those of excluded patients."""
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
    """GET /book/state: return the counts and the record of each study."""
    complete = {}
    for study in json.loads(orthanc.RestApiGet("/studies")):
        metadata = json.loads(orthanc.RestApiGet("/studies/%s/metadata?expand" % study))
        complete[study] = metadata.get(str(COMPLETE))
    with LOCK:
        state = dict(TOTAL, starts=orthanc.GetGlobalProperty(1024, ""), complete=complete)
    output.AnswerBuffer(json.dumps(state, sort_keys=True), "application/json")


def Delete(output, uri, **request):
    """POST /book/delete: delete the study with the UID in the body."""
    orthanc.RestApiDelete("/studies/" + orthanc.LookupStudy(request["body"].decode("ascii")))
    output.AnswerBuffer("deleted", "text/plain")


def Filter(uri, **request):
    """Refuse requests without the key."""
    if request["headers"].get("x-book-key") != CONFIGURATION["Key"]:
        orthanc.LogWarning("Refused: " + pprint.pformat(uri))
        return False
    return True


orthanc.RegisterOnStoredInstanceCallback(OnStoredInstance)
orthanc.RegisterOnChangeCallback(OnChange)
orthanc.RegisterRestCallback("/book/studies/(.*)", Summary)
orthanc.RegisterRestCallback("/book/find", Find)
orthanc.RegisterRestCallback("/book/state", State)
orthanc.RegisterRestCallback("/book/delete", Delete)
orthanc.RegisterIncomingHttpRequestFilter(Filter)
