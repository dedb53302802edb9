{{- /* Written by `make rbac` from crates/operator/src/permissions.rs; a change here would be lost. */ -}}
{{- define "syncline.rules.tenant" -}}
# what is to be replicated
- apiGroups: [volsync.backube]
  resources: [replicationsources]
  verbs: [get, list, watch]
# remembering what has no field in the status
- apiGroups: [volsync.backube]
  resources: [replicationsources]
  verbs: [patch]
# what is to be received
- apiGroups: [volsync.backube]
  resources: [replicationdestinations]
  verbs: [get, list, watch]
# remembering what has no field in the status
- apiGroups: [volsync.backube]
  resources: [replicationdestinations]
  verbs: [patch]
# how replication goes
- apiGroups: [volsync.backube]
  resources: [replicationsources/status]
  verbs: [patch]
# how replication goes
- apiGroups: [volsync.backube]
  resources: [replicationdestinations/status]
  verbs: [patch]
# owning what is made for a source
- apiGroups: [volsync.backube]
  resources: [replicationsources/finalizers]
  verbs: [update]
# owning what is made for a destination
- apiGroups: [volsync.backube]
  resources: [replicationdestinations/finalizers]
  verbs: [update]
# the movers
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
# the movers' pods, and which node a volume is in use on
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# the movers' reports and last words
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
# the address that a source sends to
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch]
# the movers' identity, which has no rights
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get, list, watch, create, patch]
# the movers' role, which is empty
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles]
  verbs: [get, list, watch, create, patch]
# that role's binding
- apiGroups: [rbac.authorization.k8s.io]
  resources: [rolebindings]
  verbs: [get, list, watch, create, patch]
# the movers' keys; watched by metadata only, read by the names that a resource gives or that are the operator's own
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch]
# the certificates that `customCA` names; watched by metadata only, read by that name
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch]
# volumes, and point-in-time copies of them
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, create, patch, delete]
# images, and what copies are made from
- apiGroups: [snapshot.storage.k8s.io]
  resources: [volumesnapshots]
  verbs: [get, list, watch, create, patch, delete]
# why a pod or a volume does not come to be
- apiGroups: [""]
  resources: [events]
  verbs: [list]
# what happened, told at the resource
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}
{{- define "syncline.rules.cluster" -}}
# whether movers may be privileged there, and which cluster this is to stores that several share
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get]
# the host name of the node that a volume is in use on
- apiGroups: [""]
  resources: [nodes]
  verbs: [get]
# whether a class that a resource names exists
- apiGroups: [storage.k8s.io]
  resources: [storageclasses]
  verbs: [get, list, watch]
# whether a class that a resource names exists
- apiGroups: [snapshot.storage.k8s.io]
  resources: [volumesnapshotclasses]
  verbs: [get, list, watch]
{{- end }}
{{- define "syncline.rules.populator" -}}
# giving the filled volume to the claim that waits
- apiGroups: [""]
  resources: [persistentvolumes]
  verbs: [get, patch]
# telling the cluster that claims can be filled from a ReplicationDestination
- apiGroups: [populator.storage.k8s.io]
  resources: [volumepopulators]
  verbs: [create]
# correcting an entry that says something else
- apiGroups: [populator.storage.k8s.io]
  resources: [volumepopulators]
  verbs: [get, patch]
{{- end }}
{{- define "syncline.rules.populatorTenant" -}}
# owning the temporary claim that fills another one
- apiGroups: [""]
  resources: [persistentvolumeclaims/finalizers]
  verbs: [update]
{{- end }}
{{- define "syncline.rules.election" -}}
# who of several operators works
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [b95b3104.backube]
  verbs: [get, update]
# the first one's lease
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
{{- end }}
{{- define "syncline.rules.pullSecrets" -}}
# the pull secrets that movers' images need
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch]
{{- end }}
{{- define "syncline.rules.pullSecretsTenant" -}}
# sharing the copy of a pull secret: whoever becomes a further owner needs the right to delete it
- apiGroups: [""]
  resources: [secrets]
  verbs: [delete]
{{- end }}
{{- define "syncline.rules.metricsAccess" -}}
# who asks for metrics
- apiGroups: [authentication.k8s.io]
  resources: [tokenreviews]
  verbs: [create]
# whether they may have them
- apiGroups: [authorization.k8s.io]
  resources: [subjectaccessreviews]
  verbs: [create]
{{- end }}
