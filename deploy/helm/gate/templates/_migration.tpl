{{/*
The Job that migrates. An ordinary resource and not a hook: Helm would run a post-upgrade hook after the pods are ready, and
they are not ready before the migration. Its name ends in a hash of its spec, because a Job cannot be changed. So a new image is a
new Job, and an upgrade that changes nothing else runs none.
*/}}
{{- define "gate.migrationJob" -}}
{{- if .Values.gate.migration.enabled -}}
{{- $spec := include "gate.migrationJobSpec" . -}}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ include "gate.name" . }}-migrate-{{ $spec | fromYaml | toJson | sha256sum | trunc 10 }}
  labels:
    {{- include "gate.labels" . | nindent 4 }}
  {{- with .Values.gate.migration.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- $spec | nindent 2 }}
{{- end -}}
{{- end -}}

{{- define "gate.migrationJobSpec" -}}
{{- $gate := .Values.gate -}}
{{- $migration := $gate.migration -}}
backoffLimit: {{ $migration.backoffLimit | int }}
podFailurePolicy:
  rules:
    # 65: a migration failed, 76: refused, 78: wrong settings or scripts. A retry would fail in the same way.
    - action: FailJob
      onExitCodes:
        containerName: migrate
        operator: In
        values: [65, 76, 78]
    # A drained node does not count as a failed try.
    - action: Ignore
      onPodConditions:
        - type: DisruptionTarget
          status: "True"
{{- if not (kindIs "invalid" $migration.ttlSecondsAfterFinished) }}
# The pods check the database, not this Job, so Kubernetes may delete it.
ttlSecondsAfterFinished: {{ $migration.ttlSecondsAfterFinished | int64 }}
{{- end }}
template:
  metadata:
    labels:
      {{- toYaml (merge (include "gate.podLabels" . | fromYaml) $migration.podLabels) | nindent 6 }}
    {{- with $migration.podAnnotations }}
    annotations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  spec:
    # podFailurePolicy requires it. A failed pod keeps its log and its termination message.
    restartPolicy: Never
    automountServiceAccountToken: false
    # On SIGTERM gate cancels the statement in the database within two seconds.
    terminationGracePeriodSeconds: {{ $migration.terminationGracePeriodSeconds | int }}
    {{- with $migration.podSpec }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    securityContext:
      {{- include "gate.podSecurityContext" . | nindent 6 }}
    containers:
      - name: migrate
        image: {{ include "gate.image" . | quote }}
        {{- with $gate.imagePullPolicy }}
        imagePullPolicy: {{ . }}
        {{- end }}
        command: [gate, migrate]
        env:
          {{- include "gate.variables" (dict "gate" $gate "more" $migration.env) | nindent 10 }}
        resources:
          {{- toYaml $migration.resources | nindent 10 }}
        securityContext:
          {{- include "gate.securityContext" . | nindent 10 }}
        volumeMounts:
          {{- include "gate.volumeMounts" . | nindent 10 }}
    volumes:
      {{- include "gate.volumesOf" (tpl ($migration.secretName | default $gate.database.secretName) .) | nindent 6 }}
{{- end -}}
