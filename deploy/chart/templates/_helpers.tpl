{{- define "code-interpreter.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "code-interpreter.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "code-interpreter.labels" -}}
{{ include "code-interpreter.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- /* The kernels' namespace. It never holds the secrets of the release, which a pod there could mount. */ -}}
{{- define "code-interpreter.kernels" -}}
{{- $name := .Values.kernels.namespace | default (printf "%s-%s-kernels" .Release.Namespace .Release.Name) -}}
{{- if eq $name .Release.Namespace -}}
{{- fail (printf "kernels.namespace=%s is the namespace of the release, whose secrets its pods could mount: name another one, or none" $name) -}}
{{- end -}}
{{- if gt (len $name) 63 -}}
{{- fail (printf "the name of the kernels' namespace, %s, is too long: create one, and name it in kernels.namespace" $name) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{- /* "yes" if several replicas share a database and an object storage. Fails if the values contradict each other. */ -}}
{{- define "code-interpreter.replicated" -}}
{{- $many := or .Values.autoscaling.enabled (gt (int .Values.replicas) 1) -}}
{{- if or $many .Values.replication.enabled -}}
{{- if .Values.persistence.enabled -}}
{{- fail "replicas never share a folder: replicas above 1, autoscaling and replication need persistence.enabled=false" -}}
{{- end -}}
{{- range $name := list "DATABASE_URL" "FILE_STORAGE_URL" -}}
{{- if not (or (get $.Values.env $name) $.Values.envFromSecrets) -}}
{{- fail (printf "replicas share a database and an object storage: set %s in env, or name a secret that has it in envFromSecrets" $name) -}}
{{- end -}}
{{- end -}}
yes
{{- end -}}
{{- end -}}

{{- define "code-interpreter.registrySecret" -}}
{{- .Values.registryKey.secret | default (printf "%s-registry" (include "code-interpreter.name" .)) -}}
{{- end -}}

{{- define "code-interpreter.replicaSecret" -}}
{{- .Values.replication.secret | default (printf "%s-replicas" (include "code-interpreter.name" .)) -}}
{{- end -}}
