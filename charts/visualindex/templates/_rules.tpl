{{/* What the operator may do in a namespace it works in: exactly the objects it makes, and those it watches. */}}
{{- define "visualindex.rules" -}}
# The resources themselves: their finalizer is in metadata, their status is a subresource.
- apiGroups: [visualindex.dev]
  resources: [visualindexes]
  verbs: [get, list, watch, patch, update]
- apiGroups: [visualindex.dev]
  resources: [visualindexes/status]
  verbs: [get, patch, update]
- apiGroups: [ray.io]
  resources: [rayservices]
  verbs: [get, list, watch, create, patch, delete]
# Worker counts of a running cluster, which KubeRay takes from a RayService for new ones only.
- apiGroups: [ray.io]
  resources: [rayclusters]
  verbs: [get, patch]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
# Secrets that indexes name are read one by one; CLUSTER-credentials and NAME-api-keys are written. Where an admission plugin
# guards owner references (OpenShift), changing those takes the right to delete; nothing is deleted.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, patch, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [get]
- apiGroups: ["", events.k8s.io]
  resources: [events]
  verbs: [create, patch]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
{{- if .Values.peering.enabled }}
- apiGroups: [kopf.dev]
  resources: [{{ ternary "kopfpeerings" "clusterkopfpeerings" (not (empty .Values.operator.namespaces)) }}]
  verbs: [list, watch]
- apiGroups: [kopf.dev]
  resources: [{{ ternary "kopfpeerings" "clusterkopfpeerings" (not (empty .Values.operator.namespaces)) }}]
  resourceNames: [{{ include "visualindex.peering" . | quote }}]
  verbs: [get, patch, update]
{{- end }}
{{- end -}}
