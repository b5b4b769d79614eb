{{- define "peersignal.name" -}}
{{- .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "peersignal.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "peersignal.selector" -}}
app.kubernetes.io/name: {{ include "peersignal.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "peersignal.labels" -}}
{{ include "peersignal.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* The port of an address such as ":8080" or "[::]:8080". */}}
{{- define "peersignal.port" -}}
{{- regexFind "[0-9]+$" . -}}
{{- end -}}

{{/* config.yaml: the values, and the paths of what is mounted. */}}
{{- define "peersignal.config" -}}
{{- $c := deepCopy .Values.config -}}
{{- if .Values.tls.secret -}}
{{- $_ := set $c "tls-cert" "/etc/peersignal/tls/tls.crt" -}}
{{- $_ := set $c "tls-key" "/etc/peersignal/tls/tls.key" -}}
{{- end -}}
{{- range $name, $_ := .Values.secretFiles -}}
{{- if not (hasSuffix "-file" $name) -}}
{{- fail (printf "secretFiles: %s does not end in -file" $name) -}}
{{- end -}}
{{- $_ := set $c $name (printf "/etc/peersignal/secrets/%s" $name) -}}
{{- end -}}
{{- toYaml $c -}}
{{- end -}}
