// What tests ask pods with; see main.go.
module maquette.invalid/tools/cluster/probe

go 1.26.0
