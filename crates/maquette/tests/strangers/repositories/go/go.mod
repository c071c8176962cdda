module git.example.com/team/guestbook

go 1.21
