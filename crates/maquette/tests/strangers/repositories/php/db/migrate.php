<?php

require __DIR__ . '/connect.php';

$db = connect();
$db->exec('CREATE TABLE IF NOT EXISTS note (id serial PRIMARY KEY, body text NOT NULL)');
if ($db->query('SELECT count(*) FROM note')->fetchColumn() == 0) {
    $db->exec("INSERT INTO note (body) VALUES ('Water the plants')");
}
