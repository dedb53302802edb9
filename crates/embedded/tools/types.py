#!/usr/bin/env python3
"""Makes src/kinds/types.txt: the fields of the built-in kinds, from the Go modules that define them.

usage: types.py API_DIR APIMACHINERY_DIR APIEXTENSIONS_DIR > src/kinds/types.txt
where the folders are those that `go mod download` prints for k8s.io/api, k8s.io/apimachinery and
k8s.io/apiextensions-apiserver. Facts only (names, protobuf numbers, types, merge keys) are kept.
"""
import glob, json, re, sys

API, MACH, EXT = sys.argv[1:4]
PACKAGES = {
    "core": (API + "/core/v1", "io.k8s.api.core.v1", "v1"),
    "batch": (API + "/batch/v1", "io.k8s.api.batch.v1", "v1"),
    "rbac": (API + "/rbac/v1", "io.k8s.api.rbac.v1", "v1"),
    "storage": (API + "/storage/v1", "io.k8s.api.storage.v1", "v1"),
    "coordination": (API + "/coordination/v1", "io.k8s.api.coordination.v1", "v1"),
    "events": (API + "/events/v1", "io.k8s.api.events.v1", "v1"),
    "authorization": (API + "/authorization/v1", "io.k8s.api.authorization.v1", "v1"),
    "meta": (MACH + "/pkg/apis/meta/v1", "io.k8s.apimachinery.pkg.apis.meta.v1", "v1"),
    "runtime": (MACH + "/pkg/runtime", "io.k8s.apimachinery.pkg.runtime", "runtime"),
    "apiextensions": (EXT + "/pkg/apis/apiextensions/v1",
                      "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1", "v1"),
}
ALIAS = {"metav1": "meta", "v1": "core", "corev1": "core", "runtime": "runtime", "apiextensions": "apiextensions"}
# In batch, storage, ... the import name `v1` may be core or meta; resolved by looking the name up in both.
SPECIAL = {
    "metav1.Time": "time", "meta.Time": "time", "meta.MicroTime": "microtime", "metav1.MicroTime": "microtime",
    "meta.FieldsV1": "fieldsv1", "meta.Duration": "duration", "resource.Quantity": "quantity",
    "intstr.IntOrString": "intorstring", "runtime.RawExtension": "raw", "apiextensions.JSON": "raw",
    "apiextensions.JSONSchemaPropsOrArray": "schemaorarray", "apiextensions.JSONSchemaPropsOrBool": "schemaorbool",
    "apiextensions.JSONSchemaPropsOrStringArray": "schemaorstrings", "types.UID": "string:types.UID",
    "types.NodeName": "string:types.NodeName",
}
SCALARS = {"string", "bool", "int32", "int64", "float64", "int", "uint32", "byte"}
ROOTS = """core.Namespace core.ConfigMap core.Secret core.ServiceAccount core.Service core.Endpoints core.Pod
core.PersistentVolumeClaim core.PersistentVolume core.Event core.Node batch.Job storage.StorageClass rbac.Role
rbac.RoleBinding rbac.ClusterRole rbac.ClusterRoleBinding coordination.Lease events.Event
authorization.SelfSubjectAccessReview authorization.SelfSubjectRulesReview
apiextensions.CustomResourceDefinition meta.DeleteOptions meta.Status""".split()

structs, named = {}, {}
for package, (folder, _, _) in PACKAGES.items():
    for path in sorted(glob.glob(folder + "/*.go")):
        if "_test" in path or "zz_" in path or "generated" in path or "_proto" in path:
            continue
        lines = open(path).read().split("\n")
        i, comments = 0, []
        while i < len(lines):
            line = lines[i]
            match = re.match(r"^type (\w+) struct \{$", line)
            if line.startswith("//"):
                comments.append(line[2:].strip())
            elif empty := re.match(r"^type (\w+) struct ?\{\}$", line):
                structs[f"{package}.{empty.group(1)}"] = ([], comments)
                comments = []
            elif match:
                fields, field_comments = [], []
                i += 1
                while lines[i] != "}":
                    text = lines[i].strip()
                    if text.startswith("//"):
                        field_comments.append(text[2:].strip())
                    elif text:
                        tagged = re.match(r"^(.*?)\s*`(.*)`", text)
                        if tagged:
                            fields.append((tagged.group(1), tagged.group(2), field_comments))
                        field_comments = []
                    i += 1
                structs[f"{package}.{match.group(1)}"] = (fields, comments)
                comments = []
            else:
                match = re.match(r"^type (\w+) (=? ?)([\w\[\]\.\*]+)$", line)
                if match:
                    named[f"{package}.{match.group(1)}"] = match.group(3)
                if line.strip():
                    comments = []
            i += 1

reached, order = set(), []

def qualify(package, name):
    if "." not in name:
        return f"{package}.{name}"
    alias, rest = name.split(".")
    if alias == "v1":
        alias = "core" if package != "core" and f"core.{rest}" in structs | named else "meta"
    return f"{ALIAS.get(alias, alias)}.{rest}"

def full(key):
    package, name = key.split(".")
    return f"{PACKAGES[package][1]}.{name}"

def resolve(package, go):
    if go.startswith("*"):
        return "*" + resolve(package, go[1:])
    if go == "[]byte":
        return "bytes"
    if go.startswith("[]"):
        return "[]" + resolve(package, go[2:])
    match = re.match(r"^map\[([\w\.]+)\](.*)$", go)
    if match:
        return "map:" + resolve(package, match.group(2))
    if go in SCALARS:
        return "int64" if go == "int" else go
    key = qualify(package, go)
    for candidate in (key, go):
        if candidate in SPECIAL:
            return SPECIAL[candidate]
    if key in structs:
        if key not in reached:
            reached.add(key); order.append(key)
        return full(key)
    if key in named:
        base = resolve(key.split(".")[0], named[key])
        return base if ":" in base or "." in base or base.startswith("[]") else f"{base}:{PACKAGES[key.split('.')[0]][2]}.{key.split('.')[1]}"
    raise SystemExit(f"unknown type {go} in {package}")

for root in ROOTS:
    reached.add(root); order.append(root)
out, position = {}, 0
while position < len(order):
    key = order[position]; position += 1
    package = key.split(".")[0]
    fields, comments = structs[key]
    rows = []
    for declaration, tag, notes in fields:
        tags = dict(re.findall(r'(\w+):"((?:[^"\\]|\\.)*)"', tag))
        parts = tags.get("json", "").split(",")
        if parts[0] == "-" or "json" not in tags:
            continue
        words = declaration.split()
        go = words[-1]
        number = (re.match(r"^\w+,(\d+)", tags.get("protobuf", "")) or [None, "0"])[1]
        flags = []
        inline = "inline" in parts or not parts[0]
        if inline:
            if go.endswith("TypeMeta") or go.endswith("ListMeta"):
                if go.endswith("TypeMeta"):
                    continue
            flags.append("inline")
        if "omitempty" in parts: flags.append("omitempty")
        if "omitzero" in parts: flags.append("omitzero")
        if "patchMergeKey" in tags: flags.append("patchkey=" + tags["patchMergeKey"])
        if "patchStrategy" in tags: flags.append("patch=" + tags["patchStrategy"].replace(",", "+"))
        keys = []
        for note in notes:
            if match := re.match(r"^\+(listType|mapType|structType)=(\w+)", note):
                flags.append({"atomic": "atomic", "set": "set", "map": "map", "granular": "granular"}[match.group(2)])
            if match := re.match(r"^\+listMapKey=(\w+)", note):
                keys.append(match.group(1))
            if match := re.match(r"^\+default=(.*)$", note):
                try:
                    flags.append("default=" + json.dumps(json.loads(match.group(1)), separators=(",", ":")))
                except ValueError:
                    pass
        if "map" in flags:
            flags[flags.index("map")] = "keys=" + "+".join(keys)
        rows.append("\t".join(["\t" + (parts[0] or go.split(".")[-1]), number, resolve(package, go), " ".join(flags)]).rstrip())
    head = full(key)
    if any(re.match(r"^\+(structType|mapType)=atomic", note) for note in comments):
        head += " atomic"
    out[key] = (head, rows)

versions = [re.search(r"@(v[\d.]+)", d).group(1) for d in (API, MACH, EXT)]
print(f"# Fields of the built-in kinds, from k8s.io/api, apimachinery and apiextensions-apiserver {versions[0]} (Apache-2.0).")
print("# Made by tools/types.py. A line without indent is a struct; its fields follow: JSON name, protobuf number, type, flags.")
for key in sorted(out):
    head, rows = out[key]
    print(head)
    for row in rows:
        print(row)
