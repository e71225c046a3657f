// Renders a chart's templates as Helm does, by the same engine (text/template) and with those of its functions that
// the chart uses. In: {"Templates": {name: text}, "Values": …, "Release": …, "Chart": …,
// "Existing": {name: object of the cluster}}; out: {name: text}.
package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"text/template"
)

func indent(spaces int, text string) string {
	pad := strings.Repeat(" ", spaces)
	return pad + strings.ReplaceAll(text, "\n", "\n"+pad)
}

func isEmpty(value interface{}) bool {
	found := reflect.ValueOf(value)
	return !found.IsValid() || found.IsZero() ||
		((found.Kind() == reflect.Map || found.Kind() == reflect.Slice) && found.Len() == 0)
}

func main() {
	var input map[string]interface{}
	if err := json.NewDecoder(os.Stdin).Decode(&input); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	all := template.New("chart").Option("missingkey=zero")
	all.Funcs(template.FuncMap{
		"include": func(name string, data interface{}) (string, error) {
			var out bytes.Buffer
			err := all.ExecuteTemplate(&out, name, data)
			return out.String(), err
		},
		// JSON is YAML.
		"toYaml": func(value interface{}) (string, error) {
			out, err := json.Marshal(value)
			return string(out), err
		},
		"nindent":    func(spaces int, text string) string { return "\n" + indent(spaces, text) },
		"quote":      func(value interface{}) string { return fmt.Sprintf("%q", fmt.Sprint(value)) },
		"toString":   func(value interface{}) string { return fmt.Sprint(value) },
		"contains":   func(part, text string) bool { return strings.Contains(text, part) },
		"trimSuffix": func(end, text string) string { return strings.TrimSuffix(text, end) },
		"trunc": func(most int, text string) string {
			if len(text) > most {
				return text[:most]
			}
			return text
		},
		"default": func(otherwise, value interface{}) interface{} {
			if isEmpty(value) {
				return otherwise
			}
			return value
		},
		"int":  func(value float64) int { return int(value) },
		"list": func(values ...interface{}) []interface{} { return values },
		"dict": func() map[string]interface{} { return nil },
		"get": func(values map[string]interface{}, name string) interface{} {
			if value, found := values[name]; found {
				return value
			}
			return ""
		},
		"b64enc": func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) },
		"randAlphaNum": func(length int) string {
			bytes := make([]byte, length)
			rand.Read(bytes)
			return hex.EncodeToString(bytes)[:length]
		},
		// What the cluster has already, by name.
		"lookup": func(version, kind, namespace, name string) map[string]interface{} {
			existing, _ := input["Existing"].(map[string]interface{})
			found, _ := existing[name].(map[string]interface{})
			return found
		},
		"fail": func(text string) (string, error) { return "", errors.New(text) },
	})
	rendered := map[string]string{}
	for name, text := range input["Templates"].(map[string]interface{}) {
		template.Must(all.New(name).Parse(text.(string)))
		rendered[name] = ""
	}
	for name := range rendered {
		var out bytes.Buffer
		if err := all.ExecuteTemplate(&out, name, input); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		rendered[name] = out.String()
	}
	json.NewEncoder(os.Stdout).Encode(rendered)
}
