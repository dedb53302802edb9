# S3 by moto at the Unix socket `socket` of the folder that is named; the keys of its only user are in the file `keys`.
import json
import os
import re
import sys

from moto.iam.access_control import IAMPolicyStatement
from moto.iam.models import iam_backends
from moto.moto_server import werkzeug_app
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

folder = sys.argv[1]


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, *_):
        pass


# A key of S3 may hold a newline, too. For moto, routes and what a policy allows end there.
class AnyName(werkzeug_app.RegexConverter):
    def __init__(self, url_map, *items):
        super().__init__(url_map, *items)
        self.regex = f"(?s:{self.regex})"


def matches(pattern, text):
    return re.fullmatch("(?s:" + pattern.replace("*", ".*") + ")", text)


werkzeug_app.RegexConverter = AnyName
IAMPolicyStatement._match = staticmethod(matches)

iam = iam_backends["123456789012"]["aws"]
iam.create_user(region_name="us-east-1", user_name="store")
everything = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
iam.put_user_policy("store", "everything", json.dumps({"Version": "2012-10-17", "Statement": [everything]}))
key = iam.create_access_key(user_name="store")
with open(os.path.join(folder, "keys"), "w") as keys:
    keys.write(f"{key.access_key_id} {key.secret_access_key}")
application = DomainDispatcherApplication(create_backend_app)
socket = "unix://" + os.path.join(folder, "socket")
make_server(socket, 0, application, threaded=True, request_handler=Quiet).serve_forever()
