{{- define "syncline.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "syncline.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "syncline.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "syncline.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "syncline.selectorLabels" -}}
app.kubernetes.io/name: {{ include "syncline.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
control-plane: {{ include "syncline.fullname" . }}-controller
{{- end }}

{{- define "syncline.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "syncline.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "syncline.image" -}}
{{- if .Values.image.image }}
{{- .Values.image.image }}
{{- else }}
{{- printf "%v:%v" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{- /* The image of one mover: a list of the root and the mover's name. */ -}}
{{- define "syncline.moverImage" -}}
{{- $root := index . 0 }}
{{- $values := index $root.Values (index . 1) | default dict }}
{{- if $values.image }}
{{- $values.image }}
{{- else if $values.repository }}
{{- printf "%v:%v" $values.repository ($values.tag | default $root.Chart.AppVersion) }}
{{- else }}
{{- include "syncline.image" $root }}
{{- end }}
{{- end }}

{{- /* Without rights on the cluster nobody can be asked who reads metrics, so they are served to everybody or not at all. */ -}}
{{- define "syncline.servesMetrics" -}}
{{- if or (not .Values.watchNamespace) .Values.metrics.disableAuth }}yes{{ end }}
{{- end }}

{{- define "syncline.subject" -}}
- kind: ServiceAccount
  name: {{ include "syncline.serviceAccount" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}
