{{- define "kvidx.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "kvidx.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := include "kvidx.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "kvidx.selector" -}}
app.kubernetes.io/name: {{ include "kvidx.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "kvidx.labels" -}}
{{ include "kvidx.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "kvidx.image" -}}
{{- with .Values.image -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end }}
{{- end }}

{{- define "kvidx.serviceAccount" -}}
{{- default (include "kvidx.fullname" .) .Values.serviceAccount.name }}
{{- end }}

{{- /* What Pod Security "restricted" asks of a container, and a read-only root file system. */ -}}
{{- define "kvidx.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{- define "kvidx.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- /*
What the operator may do in a namespace that it looks after, and no more: the end-to-end tests hold each verb against the API server's audit log. It owns
these objects and applies them on the server: `patch` changes, `create` is asked for as well when the object is new, `get` when a name is taken. What goes
with its owner is deleted by the garbage collector. It never updates a user's spec: `patch` on our own kinds is for finalizers.
*/ -}}
{{- define "kvidx.namespaceRules" -}}
- apiGroups: [kvidx.io]
  resources: [kvidxdatabases]
  verbs: [get, list, watch, patch]
- apiGroups: [kvidx.io]
  resources: [kvidxrestores]
  verbs: [get, list, watch]
# the catalog is rebuilt from the store, and retention removes what it removed there
- apiGroups: [kvidx.io]
  resources: [kvidxbackups]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [kvidx.io]
  resources: [kvidxdatabases/status, kvidxbackups/status, kvidxrestores/status]
  verbs: [patch]
# to own objects with blockOwnerDeletion where that is enforced
- apiGroups: [kvidx.io]
  resources: [kvidxdatabases/finalizers, kvidxbackups/finalizers, kvidxrestores/finalizers]
  verbs: [update]
# made once: their tokens are people's to change
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create]
- apiGroups: [""]
  resources: [services, configmaps, serviceaccounts]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, create, patch, delete]
# delete: a pod that is not ready and of an outdated revision, which a StatefulSet never replaces
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [cronjobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, delete]
# none is made for one replica
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [list, watch]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
# of the database's pod and of backup jobs; the API server lets the operator grant only what it may do itself
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings]
  verbs: [get, list, watch, create, patch]
- apiGroups: [snapshot.storage.k8s.io]
  resources: [volumesnapshots]
  verbs: [get, list, create, patch, delete]
{{- end }}
