// Guestbook keeps what visitors write in a file.
package main

import (
	"fmt"
	"html"
	"log"
	"net/http"
	"os"
	"strings"
	"sync"
)

var (
	version = "dev"
	lock    sync.Mutex
)

func main() {
	path := os.Getenv("GUESTBOOK")
	if path == "" {
		path = "guestbook.txt"
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		lock.Lock()
		defer lock.Unlock()
		if entry := r.URL.Query().Get("sign"); entry != "" {
			file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			fmt.Fprintln(file, strings.ReplaceAll(entry, "\n", " "))
			file.Close()
		}
		text, _ := os.ReadFile(path)
		fmt.Fprintf(w, "<h1>Guestbook %s</h1><pre>%s</pre>", version, html.EscapeString(string(text)))
	})
	log.Fatal(http.ListenAndServe(":8080", nil))
}
