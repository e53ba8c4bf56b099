{{- define "visualindex.fullname" -}}
{{- $chart := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $chart .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $chart | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/*
What never changes over a release's life: selectors are immutable. The NetworkPolicies that the operator makes for Ray pods
know operators by the name visualindex-operator.
*/}}
{{- define "visualindex.selector" -}}
app.kubernetes.io/name: visualindex-{{ .component }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "visualindex.labels" -}}
{{ include "visualindex.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: visualindex
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "visualindex.image" -}}
{{- with .Values.image -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ default $.Chart.AppVersion .tag }}{{ end -}}
{{- end -}}
{{- end -}}

{{- define "visualindex.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "visualindex.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (printf "%s-operator" (include "visualindex.fullname" .)) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "visualindex.peering" -}}
{{- if .Values.peering.enabled }}{{ default (include "visualindex.fullname" .) .Values.peering.name }}{{ end -}}
{{- end -}}

{{/* What the "restricted" Pod Security Standard asks of a pod and of a container, and a read-only root file system. */}}
{{- define "visualindex.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "visualindex.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "visualindex.redisAddress" -}}
{{- if .Values.redis.enabled -}}
{{ include "visualindex.fullname" . }}-redis.{{ .Release.Namespace }}.svc:6379
{{- else -}}
{{ .Values.redis.address }}
{{- end -}}
{{- end -}}

{{- define "visualindex.redisSecret" -}}
{{- $redis := .Values.redis -}}
{{- if $redis.passwordSecret.name -}}
{{ $redis.passwordSecret.name }}/{{ $redis.passwordSecret.key }}
{{- else if $redis.enabled -}}
{{ include "visualindex.fullname" . }}-redis/password
{{- end -}}
{{- end -}}

{{/* A generated value: the one in the cluster where there is one, so that an upgrade changes no password. */}}
{{- define "visualindex.generated" -}}
{{- $secret := lookup "v1" "Secret" .root.Release.Namespace .secret | default dict -}}
{{- $data := $secret.data | default dict -}}
{{- if hasKey $data .key }}{{ index $data .key | b64dec }}{{ else }}{{ randAlphaNum (int .length) }}{{ end -}}
{{- end -}}
