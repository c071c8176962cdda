<?php

function connect(): PDO
{
    $address = sprintf('pgsql:host=%s;dbname=%s', getenv('DB_HOST'), getenv('DB_NAME'));
    // The database may need a moment longer than we do.
    for ($attempt = 1; ; $attempt++) {
        try {
            return new PDO($address, getenv('DB_USER'), getenv('DB_PASSWORD'));
        } catch (PDOException $error) {
            if ($attempt >= 30) {
                throw $error;
            }
            sleep(1);
        }
    }
}
