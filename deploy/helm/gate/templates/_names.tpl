{{/* Prefix of the Job's name: at most 44 characters, so that the name with its hash is a valid label (63). */}}
{{- define "gate.name" -}}
{{- $name := tpl .Values.gate.name . | default .Values.fullnameOverride -}}
{{- if not $name -}}
  {{- $chart := default .Chart.Name .Values.nameOverride -}}
  {{- $name = contains $chart .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $chart) -}}
{{- end -}}
{{- regexReplaceAll "-+$" ($name | replace "." "-" | trunc 44) "" -}}
{{- end -}}

{{/* The image of the server, of gate and of the Job. */}}
{{- define "gate.image" -}}
{{- if .Values.gate.image -}}
  {{- tpl .Values.gate.image . -}}
{{- else -}}
  {{- $image := .Values.image | default dict -}}
  {{- if not (and (kindIs "map" $image) $image.repository) -}}
    {{- fail "gate does not know the image: set image.repository and image.tag, or gate.image to the whole name" -}}
  {{- end -}}
  {{- $tag := $image.tag | default .Chart.AppVersion -}}
  {{- if not (kindIs "string" $tag) -}}
    {{- fail (printf "image.tag is the number %v: quote it, or use --set-string, because 1.10 would become 1.1" $tag) -}}
  {{- end -}}
  {{- if not $tag -}}
    {{- fail "gate does not know the tag of the image: set image.tag, or appVersion in Chart.yaml" -}}
  {{- end -}}
  {{- printf "%s:%s" $image.repository $tag -}}
{{- end -}}
{{- end -}}

{{/* Labels of the Job. Not of its pod: a new version of the chart alone must not change that. */}}
{{- define "gate.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
{{ include "gate.podLabels" . }}
{{- end -}}

{{/* Not the labels of the server's pods: its Service would send requests to the Job. */}}
{{- define "gate.podLabels" -}}
app.kubernetes.io/name: {{ include "gate.name" . }}-migrate
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: migration
{{- end -}}
