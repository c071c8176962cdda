// What tests run in pods of the test cluster, to be asked and to ask others. It needs no library of the image that it is in.
//
//	probe serve :8080 hello          answers every request with the line, and says "serving" once it listens
//	probe get http://web 5           prints what is answered; fails when that takes longer than 5 seconds
//	probe dial 10.96.0.1:443 5       fails unless somebody accepts the connection within 5 seconds
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) != 3 {
		return fmt.Errorf("usage: probe serve ADDRESS LINE | get URL SECONDS | dial ADDRESS SECONDS")
	}
	target, last := arguments[1], arguments[2]
	if arguments[0] == "serve" {
		return serve(target, last)
	}
	seconds, err := strconv.ParseFloat(last, 64)
	if err != nil {
		return fmt.Errorf("not a number of seconds: %w", err)
	}
	limit := time.Duration(seconds * float64(time.Second))
	switch arguments[0] {
	case "get":
		return get(target, limit)
	case "dial":
		return dial(target, limit)
	default:
		return fmt.Errorf("no such command: %s", arguments[0])
	}
}

func serve(address, line string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Println("serving")
	return http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, line) }))
}

func get(url string, limit time.Duration) error {
	client := http.Client{Timeout: limit}
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	_, err = io.Copy(os.Stdout, response.Body)
	return err
}

func dial(address string, limit time.Duration) error {
	connection, err := net.DialTimeout("tcp", address, limit)
	if err != nil {
		return err
	}
	return connection.Close()
}
