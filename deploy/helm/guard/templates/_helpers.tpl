{{- define "guard.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 53 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 53 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "guard.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "guard.labels" -}}
{{ include "guard.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "guard.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}{{ else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- /* serve.yaml: the user's settings, and over them what the rest of the chart relies on. */}}
{{- define "guard.settings" -}}
{{- $own := dict "host" "0.0.0.0" "port" 50051 "metrics_port" 9090 }}
{{- if .Values.rest.enabled }}{{ $_ := set $own "rest_port" 8080 }}{{ end }}
{{- if .Values.apiKeys.existingSecret }}{{ $_ := set $own "api_keys" "/run/guard/keys/keys.yaml" }}{{ end }}
{{- if .Values.tls.existingSecret }}{{ $_ := set $own "tls" (dict "certificate" "/run/guard/tls/tls.crt" "key" "/run/guard/tls/tls.key") }}{{ end }}
{{- toYaml (merge $own (deepCopy .Values.settings)) }}
{{- end }}

{{- define "guard.probe" -}}
httpGet:
  path: {{ .path }}
  port: operations
  scheme: {{ ternary "HTTPS" "HTTP" (ne .root.Values.tls.existingSecret "") }}
timeoutSeconds: 3
{{- end }}
