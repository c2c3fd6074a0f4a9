{{/* securityContext of a pod: the restricted standard. */}}
{{- define "gate.podSecurityContext" -}}
# Numeric, because Kubernetes cannot verify runAsNonRoot with a name.
runAsNonRoot: true
runAsUser: {{ .Values.gate.user | int64 }}
runAsGroup: {{ .Values.gate.group | int64 }}
# The files of the Secret belong to root and this group; mode 0440 makes them readable for it.
fsGroup: {{ .Values.gate.group | int64 }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* securityContext of a container: the restricted standard. */}}
{{- define "gate.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Variables of a container: a list. gate reads the file again at each connect, so passwords can be rotated. */}}
{{- define "gate.env" -}}
{{- include "gate.variables" (dict "gate" .Values.gate "more" dict) -}}
{{- end -}}

{{- define "gate.variables" -}}
- name: DATABASE_URL_FILE
  value: {{ printf "/run/secrets/database/%s" .gate.database.key }}
{{- range $name, $value := mergeOverwrite dict .gate.env .more }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- with .gate.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* volumeMounts of a container: a list. */}}
{{- define "gate.volumeMounts" -}}
- name: database
  mountPath: /run/secrets/database
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- end -}}

{{/* Volumes of a pod: a list. gate writes no files; the server and Python's tempfile may need /tmp. */}}
{{- define "gate.volumes" -}}
{{- include "gate.volumesOf" (tpl .Values.gate.database.secretName .) -}}
{{- end -}}

{{- define "gate.volumesOf" -}}
- name: database
  secret:
    secretName: {{ . | quote }}
    defaultMode: 0440
- name: tmp
  emptyDir: {}
{{- end -}}

{{/* An item of initContainers: the pod stays in Init until the schema fits. It checks the database, not the Job. */}}
{{- define "gate.waitContainer" -}}
- name: wait
  image: {{ include "gate.image" . | quote }}
  {{- with .Values.gate.imagePullPolicy }}
  imagePullPolicy: {{ . }}
  {{- end }}
  command: [gate, wait]
  env:
    {{- include "gate.env" . | nindent 4 }}
  resources:
    {{- toYaml .Values.gate.wait.resources | nindent 4 }}
  securityContext:
    {{- include "gate.securityContext" . | nindent 4 }}
  volumeMounts:
    {{- include "gate.volumeMounts" . | nindent 4 }}
{{- end -}}

{{/* Fields of the server's container: its probes, and the pause before it ends. */}}
{{- define "gate.probes" -}}
{{- $probes := .Values.gate.probes -}}
{{- if $probes.preStopSeconds -}}
# A pod that ends gets requests until every proxy has removed its address. The pause is for them.
lifecycle:
  preStop:
    {{- if semverCompare ">=1.30.0-0" .Capabilities.KubeVersion.Version }}
    sleep:
      seconds: {{ $probes.preStopSeconds | int }}
    {{- else }}
    exec:
      command: [sleep, {{ $probes.preStopSeconds | int | quote }}]
    {{- end }}
{{ end -}}
# Holds the liveness probe back until the server itself has answered once. For a week, because it must end no wait.
startupProbe:
  httpGet:
    path: {{ $probes.readyPath | quote }}
    port: {{ $probes.port }}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 120960
livenessProbe:
  httpGet:
    path: {{ $probes.livePath | quote }}
    port: {{ $probes.port }}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet:
    path: {{ $probes.readyPath | quote }}
    port: {{ $probes.port }}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
{{- end -}}

{{/* Fields of a Deployment: old pods stay until new ones are ready, so a new image that waits causes no outage. */}}
{{- define "gate.rollout" -}}
strategy:
  type: RollingUpdate
  rollingUpdate:
    maxUnavailable: 0
    maxSurge: 1
progressDeadlineSeconds: {{ .Values.gate.rollout.progressDeadlineSeconds | int64 }}
{{- end -}}
